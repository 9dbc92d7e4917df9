"""Two gateways of one account: of one ledger only one can be, of two the broker takes each once."""

import signal
import threading
from typing import Any

import pytest

from risk.gateway.replay import judged_again
from risk.gateway.verify import verify


def test_a_second_gateway_of_the_same_ledger_does_not_start(desk: Any) -> None:
    first = desk.gateway()
    first.send(signal.SIGSTOP)  # it hangs, and has the ledger all the same
    second = desk.gateway(waits=False)
    assert second.wait() == 2
    assert "in use by another gateway" in second.said.splitlines()[-1]
    first.send(signal.SIGKILL)
    first.wait()
    third = desk.gateway()
    assert desk.state(third)["epoch"] == 2


def test_gateways_of_two_ledgers_send_each_order_once_between_them(desk: Any) -> None:
    names = ("first", "second")
    gateways = [desk.gateway(name=name) for name in names]
    for name, gateway in zip(names, gateways, strict=True):
        desk.supervisor(name=name)
        desk.permitted(gateway)
    answers: list[dict[str, Any]] = []
    threads = [
        threading.Thread(
            target=lambda one=gateway: answers.append(desk.decide(one, S000="0.08", S001="0.05"))
        )
        for gateway in gateways
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    accepted = [answer for answer in answers if answer["state"] == "accepted"]
    assert accepted, answers
    planned = {order["client_order_id"] for answer in accepted for order in answer["orders"]}
    assert len(planned) == 2, "both give a leg the same id"
    for answer, gateway in zip(accepted, gateways, strict=False):
        desk.finished(gateway)
        assert {order["client_order_id"] for order in answer["orders"]} == planned
    assert sorted(desk.taken()) == sorted(planned), "an order was taken twice"
    held = {symbol: one.quantity for symbol, one in desk.broker.positions().items()}
    quantities = {order["symbol"]: order["quantity"] for order in accepted[0]["orders"]}
    assert {symbol: format(shares.normalize(), "f") for symbol, shares in held.items()} == {
        symbol: quantity.rstrip("0").rstrip(".") if "." in quantity else quantity
        for symbol, quantity in quantities.items()
    }


def test_a_gateway_that_hung_while_another_took_over_sends_nothing_when_it_goes_on(
    desk: Any, request: pytest.FixtureRequest, soak: bool
) -> None:
    if not soak:
        pytest.skip("a ledger on PostgreSQL is taken over with --soak")
    empty_postgres = request.getfixturevalue("empty_postgres")
    words = (f"control.ledger='{empty_postgres}'",)
    old = desk.gateway(*words, "service.interval_s=0.2", stops_at="after the commit")
    watch = desk.supervisor(*words)
    desk.permitted(old)
    assert desk.decide(old, S000="0.08", S001="0.05")["state"] == "accepted"
    desk.until(lambda: old.stopped)  # an order is in flight on the disk, and not sent yet
    new = desk.gateway(*words)
    watch.send(signal.SIGKILL)
    desk.supervisor(*words)
    desk.permitted(new)
    done = desk.finished(new)
    assert {order["state"] for order in done["orders"]} == {"filled"}
    taken = desk.taken()
    old.send(signal.SIGCONT)
    assert old.wait() == 2 and "took" in old.said and "over" in old.said
    assert desk.taken() == taken and len(set(taken)) == len(taken) == 2
    state = desk.state(new)
    assert state["latch"]["armed"] and state["drifted"] == [] and state["foreign"] == []


def test_an_older_copy_of_the_ledger_is_not_started_from(desk: Any, soak: bool) -> None:
    if not soak:
        pytest.skip("a whole gateway is started from an older copy with --soak")
    files: dict[Any, bytes] = {}
    for _ in range(2):
        gateway = desk.gateway()
        gateway.send(signal.SIGKILL)
        gateway.wait()
        files = files or {path: path.read_bytes() for path in desk.folder.glob("first.sqlite*")}
    for path in desk.folder.glob("first.sqlite*"):
        path.unlink()
    for path, content in files.items():
        path.write_bytes(content)
    old = desk.gateway(waits=False)
    assert old.wait() == 2 and "older copy" in old.said.splitlines()[-1], old.said
    assert not verify(desk.ledger(), desk.ledger().anchor, judged_again).ok
