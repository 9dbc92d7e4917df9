"""The permit of a running gateway is in Redis: whatever Redis does, trading ends in time."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from risk.gateway.replay import judged_again
from risk.gateway.verify import verify

PERMIT_S = 2.0
LATE_S = 1.0  # a look at the state, and a machine that does other things too


@pytest.fixture
def trading(desk: Any, redis_server: Any) -> tuple[Any, Any, Any]:
    """Give a gateway and its supervisor that trade by a permit in Redis."""
    words = (
        "control.permit=redis", f"control.redis={redis_server.url}",
        f"service.permit_s={PERMIT_S}",
    )  # fmt: skip
    gateway, supervisor = desk.gateway(*words), desk.supervisor(*words)
    desk.permitted(gateway)
    return desk, gateway, supervisor


@contextmanager
def hung(process: Any) -> Iterator[None]:
    process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send(signal.SIGCONT)


@contextmanager
def killed(server: Any, _supervisor: Any) -> Iterator[None]:
    server.end()
    yield
    server.start("--save", "")


@contextmanager
def stopped(server: Any, _supervisor: Any) -> Iterator[None]:
    with hung(server):
        yield


@contextmanager
def asleep(server: Any, _supervisor: Any) -> Iterator[None]:
    """Let it answer nobody for a while, and then everybody at once."""
    client = redis.Redis(port=server.port, socket_timeout=30)
    sleeping = threading.Thread(target=client.execute_command, args=("DEBUG", "SLEEP", "4"))
    sleeping.start()
    yield
    sleeping.join()


@contextmanager
def flushed(server: Any, supervisor: Any) -> Iterator[None]:
    with hung(supervisor):
        redis.Redis(port=server.port).flushall()
        yield


@contextmanager
def evicted(server: Any, supervisor: Any) -> Iterator[None]:
    """Fill it until it forgets keys, the permit among them."""
    client = redis.Redis(port=server.port)
    with hung(supervisor):
        client.config_set("maxmemory-policy", "volatile-lru")
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("filler", "x")
        yield
        client.config_set("maxmemory", 0)


@contextmanager
def back_with_an_old_file(server: Any, supervisor: Any) -> Iterator[None]:
    """Let it come back with what it had written down while the permit was alive."""
    with hung(supervisor):
        redis.Redis(port=server.port).save()
        server.end()
        server.start()
        yield


BREAKS = (killed, stopped, asleep, flushed, evicted, back_with_an_old_file)


@pytest.mark.timeout(600)
def test_whatever_redis_does_trading_ends_within_the_permit_and_nothing_is_lost(
    trading: tuple[Any, Any, Any], redis_server: Any
) -> None:
    desk, gateway, supervisor = trading
    for number, broken in enumerate(BREAKS, start=1):
        # Ever more of two names: what was bought today is not sold today.
        weights = dict.fromkeys(("S000", "S001"), f"0.{number:02d}")
        assert desk.decide(gateway, number, **weights)["state"] == "accepted"
        open_ones = 2 * number
        desk.until(lambda count=open_ones: len(desk.taken()) == count)
        with broken(redis_server, supervisor):
            took = desk.until(lambda: desk.state(gateway)["permit_left_s"] == 0)
            print(f"Redis {broken.__name__}: no permit after {took:.2f} s of {PERMIT_S} s")
            assert took <= PERMIT_S + LATE_S, broken
            refused = desk.decide(gateway, number + 100, **weights)
            assert refused["state"] == "refused" and "permit" in refused["reasons"], refused
            desk.advance(61.0)  # the open orders fill meanwhile, and are booked
            desk.until(lambda: books_agree(desk))
            assert len(desk.taken()) == open_ones, "an order was sent without a permit"
        desk.permitted(gateway)
        done = desk.finished(gateway, number)
        assert {one["state"] for one in done["orders"]} == {"filled"}
    assert len(set(desk.taken())) == 2 * len(BREAKS)
    desk.require_equal_books()
    assert verify(desk.ledger(), desk.ledger().anchor, judged_again).ok


def books_agree(desk: Any) -> bool:
    held = {symbol: one.quantity for symbol, one in desk.broker.positions().items()}
    agree: bool = held != {} and desk.ledger().positions() == held
    return agree


def test_intents_wait_while_there_is_no_permit_and_are_sent_when_there_is_one_again(
    request: pytest.FixtureRequest, redis_server: Any, soak: bool
) -> None:
    if not soak:
        pytest.skip("a basket waits for its permit with --soak")
    trading = request.getfixturevalue("trading")
    desk, gateway, _ = trading
    names = [f"S00{n}" for n in range(5)]
    assert desk.decide(gateway, **dict.fromkeys(names, "0.02"))["state"] == "accepted"
    desk.until(lambda: len(desk.taken()) == 2)  # two a second at most, and the clock stands still
    with killed(redis_server, None):
        desk.until(lambda: desk.state(gateway)["permit_left_s"] == 0)
        for _ in range(5):
            desk.advance(1.0)
            gateway_has_looked(desk, gateway)
        assert len(desk.taken()) == 2
    desk.permitted(gateway)
    done = desk.finished(gateway)
    assert {one["state"] for one in done["orders"]} == {"filled"} and len(done["orders"]) == 5
    assert len(desk.taken()) == 5
    desk.require_equal_books()


def gateway_has_looked(desk: Any, gateway: Any) -> None:
    before = desk.state(gateway)["reconciled_at"]
    desk.until(lambda: desk.state(gateway)["reconciled_at"] != before)
