"""`tercet kill` while something hangs or is dead: the gateway in the middle of a write, Redis."""

import re
import signal
import time
from typing import Any

import pytest
import requests

from risk.gateway.replay import judged_again
from risk.gateway.verify import verify

HEADERS = {"APCA-API-KEY-ID": "key-of-the-tests", "APCA-API-SECRET-KEY": "secret-of-the-tests"}
OUTSIDE = {
    "client_order_id": "a-person", "symbol": "S002", "qty": "1", "side": "buy", "type": "limit",
    "time_in_force": "day", "limit_price": "1",
}  # fmt: skip


def put_outside(desk: Any) -> None:
    """Put an order past the gateway, so that there is something to cancel."""
    url = f"{desk.url}/v2/orders"
    assert requests.post(url, json=OUTSIDE, headers=HEADERS, timeout=30).ok
    assert len(desk.broker.open_orders()) == 1


def seconds(said: str, step: str) -> float:
    found = re.search(rf"([0-9.]+) s  {step}", said)
    assert found is not None, said
    return float(found[1])


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
def test_a_gateway_that_hangs_in_the_middle_of_an_order_gets_nothing_out_after_a_kill(
    desk: Any, moment: str, soak: bool
) -> None:
    if moment == "after the commit" and not soak:
        pytest.skip("the other moment is tried with --soak")
    gateway = desk.gateway(stops_at=moment)
    desk.supervisor()
    desk.permitted(gateway)
    assert desk.decide(gateway, S000="0.08", S001="0.05")["state"] == "accepted"
    desk.until(lambda: gateway.stopped)
    assert desk.taken() == []
    put_outside(desk)
    killer = desk.run("kill", *desk.control(), "reason=it hangs")
    locked = moment == "before the commit"  # the hanging gateway holds the database's write lock
    assert killer.wait() == (2 if locked else 0), killer.said
    assert ("FAILED" in killer.said) is locked
    if locked:
        assert re.search(r"FAILED +\S+ s  latch in the ledger.*locked", killer.said)
    cancelled = seconds(killer.said, "all orders cancelled")
    print(f"hung {moment}: all orders cancelled after {cancelled} s")
    assert cancelled <= 1.0 and seconds(killer.said, "account suspended") <= 1.0
    assert desk.broker.open_orders() == [] and desk.broker.account().suspended
    assert (desk.folder / "first.HALT").exists()
    taken = desk.taken()
    gateway.send(signal.SIGCONT)
    before = desk.state(gateway)["reconciled_at"]
    desk.advance(60.0)
    desk.until(lambda: desk.state(gateway)["reconciled_at"] > before)
    time.sleep(0.5)
    assert desk.taken() == taken, "the broker took an order after the kill"
    assert desk.broker.open_orders() == []
    state = desk.state(gateway)
    assert state["halted"] and (locked or state["latch"]["tripped"])
    answer = desk.decide(gateway, 2, S001="0.05")
    assert answer["state"] == "refused" and {"halt_file", "suspended"} <= set(answer["reasons"])
    found = verify(desk.ledger(), desk.ledger().anchor, judged_again)
    assert found.ok, found.problems


def test_a_kill_with_redis_dead_takes_no_longer(desk: Any, redis_server: Any) -> None:
    redis = ("control.permit=redis", f"control.redis={redis_server.url}")
    gateway = desk.gateway(*redis)
    desk.supervisor(*redis)
    desk.permitted(gateway)
    put_outside(desk)
    redis_server.end()
    killer = desk.run("kill", *desk.control(), *redis, "reason=Redis is dead")
    assert killer.wait() == 2  # the permit could not be taken away, and that is said
    assert re.search(r"FAILED +\S+ s  permit", killer.said)
    assert len(re.findall("^done", killer.said, re.MULTILINE)) == 5, killer.said
    assert seconds(killer.said, "all orders cancelled") <= 1.0
    assert seconds(killer.said, "latch in the ledger") <= 1.0
    print(f"Redis dead:\n{killer.said}")
    state = desk.state(gateway)
    assert state["latch"]["tripped"] and state["permit_left_s"] == 0 and state["halted"]


def test_a_kill_with_redis_hung_does_everything_else_in_time(
    desk: Any, redis_server: Any, soak: bool
) -> None:
    if not soak:
        pytest.skip("Redis hangs with --soak; it is dead in every run")
    redis = ("control.permit=redis", f"control.redis={redis_server.url}")
    desk.gateway(*redis)
    put_outside(desk)
    redis_server.send(signal.SIGSTOP)
    killer = desk.run("kill", *desk.control(), *redis, "reason=Redis hangs")
    assert killer.wait() == 2
    assert len(re.findall("^done", killer.said, re.MULTILINE)) == 5, killer.said
    assert seconds(killer.said, "all orders cancelled") <= 1.0
    assert desk.broker.open_orders() == [] and desk.ledger().latch().tripped


def test_an_order_that_was_about_to_be_put_in_flight_as_the_gateway_hung_is_not_lost(
    desk: Any, soak: bool
) -> None:
    if not soak:
        pytest.skip("a gateway that hung is killed with --soak")
    gateway = desk.gateway(stops_at="before the commit")
    desk.supervisor()
    desk.permitted(gateway)
    desk.decide(gateway, S000="0.08")
    desk.until(lambda: gateway.stopped)
    gateway.send(signal.SIGKILL)
    gateway.wait()
    again = desk.gateway()
    desk.permitted(again)
    done = desk.finished(again)
    assert {one["state"] for one in done["orders"]} == {"filled"}
    assert len(desk.taken()) == len(done["orders"])
    desk.require_equal_books()
    assert verify(desk.ledger(), desk.ledger().anchor, judged_again).ok
