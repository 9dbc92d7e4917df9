"""The same decision many times at once, and callers that hang up in the middle of asking.

One of them wins, all the others hear the same, another body is a conflict; and whoever hangs up
leaves a whole decision behind or none.
"""

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from threading import Barrier, local
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from risk.access.tokens import Role
from risk.gateway.stored import DecisionState

THREADS = 64
ROUNDS, SOAK_ROUNDS = 20, 1_000
HANGUPS, SOAK_HANGUPS = 40, 1_000
SEED = 1_306
MESSAGE = {
    "Authorization": "Bearer allocate-token-of-the-tests",
    "Content-Type": "application/json",
}
EACH_DAY = 10  # decisions: the limits of a day stop more


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(THREADS) as pool:
        yield pool


def books() -> Iterator[dict[str, str]]:
    """Return one book after another: more every time for a day, less every time the next day."""
    steps = [str(round(0.01 + 0.008 * step, 3)) for step in range(EACH_DAY)]
    more = [*steps[:5], "0.002", *steps[6:]]  # what was bought today is carried, not sold
    while True:
        for weight in [*more, *steps[-2::-1], "0.002"]:
            yield {"S000": weight, "S001": weight}


def next_session(house: Any) -> None:
    house.admin("PUT", "/clock", {"to": "next_open"})
    house.admin("PUT", "/clock", {"advance_s": 1800})
    house.permit()
    house.running.gateway.recover()


def work(house: Any, decision_id: str) -> None:
    """Let every order of a decision end."""
    for _ in range(40):
        house.permit()
        house.running.gateway.step()
        known = house.running.ledger.decision(decision_id)
        if known is None or known.state is not DecisionState.accepted:
            return
        house.admin("PUT", "/clock", {"advance_s": 20})


def require_one_order_each(house: Any) -> int:
    """Require that every order was planned and sent once, and that ledger and exchange agree."""
    sent = [one["client_order_id"] for one in house.posted()]
    known = {order.client_order_id for order in house.running.ledger.orders()}
    assert len(set(sent)) == len(sent) and set(sent) <= known
    held = {name: one.quantity for name, one in house.parts.broker.positions().items()}
    assert house.running.ledger.positions() == held
    return len(sent)


@pytest.mark.timeout(3600)
def test_of_many_equal_requests_one_wins_and_all_hear_the_same(
    house: Any, crowd: ThreadPoolExecutor, listening: Callable[..., str], soak: bool
) -> None:
    rounds, started = SOAK_ROUNDS if soak else ROUNDS, time.perf_counter()
    url, wanted, draw = listening(house.app), books(), Random(SEED)
    barrier, own = Barrier(THREADS), local()
    states: Counter[str] = Counter()
    for number in range(rounds):
        if number and number % EACH_DAY == 0:
            next_session(house)
        house.permit()
        decision = f"{number + 1:064x}"
        body = house.request(decision, **next(wanted))
        other = json.loads(json.dumps(body))
        other["allocation"]["model"]["sha256"] = "b" * 64
        strangers = set(draw.sample(range(THREADS), 4))
        contents = [json.dumps(other if i in strangers else body) for i in range(THREADS)]

        def ask(content: str) -> requests.Response:
            if not hasattr(own, "session"):
                own.session = requests.Session()
            barrier.wait(60)
            found: requests.Response = own.session.post(
                f"{url}/v1/decisions", content, headers=MESSAGE, timeout=60
            )
            return found

        replies = list(crowd.map(ask, contents))
        asked = [reply for i, reply in enumerate(replies) if i not in strangers]
        others = [replies[i] for i in strangers]
        first = asked[0].status_code == 409  # who asks otherwise was the first
        losers, winners = (asked, others) if first else (others, asked)
        assert {reply.status_code for reply in winners} == {200}, Counter(map(said, replies))
        assert {reply.status_code for reply in losers} == {409}, Counter(map(said, replies))
        answers = {same(reply.json()) for reply in winners}
        assert len(answers) == 1, "\n".join(sorted(answers))
        answer = winners[0].json()
        states[" ".join([answer["state"], *answer["reasons"]])] += 1
        work(house, decision)
        if not house.running.ledger.latch().armed:
            house.arm()
    ours = [one for one in house.decisions() if int(one.decision.id, 16) <= rounds]
    assert len(ours) == rounds
    orders = require_one_order_each(house)
    seconds = time.perf_counter() - started
    print(
        f"same decision at once: {rounds} rounds x {THREADS} threads, seed {SEED}, {seconds:.0f} s;"
        f" first answers {dict(states)}, {orders} orders sent, 0 doubled"
    )
    assert states["accepted"] > rounds / 2 and orders > rounds / 2
    assert house.ask_once("GET", "/v1/audit/verify", b"").json()["ok"]


def said(reply: requests.Response) -> str:
    return f"{reply.status_code} {reply.text[:80]}"


def same(answer: dict[str, Any]) -> str:
    """Return what must be equal; the violations in full are told in the first answer alone."""
    return json.dumps({**answer, "violations": None}, sort_keys=True)


@pytest.mark.timeout(3600)
def test_who_hangs_up_leaves_a_whole_decision_or_none(
    house: Any, listening: Callable[..., str], soak: bool
) -> None:
    rounds, started = SOAK_HANGUPS if soak else HANGUPS, time.perf_counter()
    place = urlsplit(listening(house.app))
    draw, wanted = Random(SEED), books()
    found: Counter[str] = Counter()
    for number in range(rounds):
        if number and number % EACH_DAY == 0:
            next_session(house)
        house.permit()
        decision = f"{number + 1:064x}"
        body = house.request(decision, **next(wanted))
        hang_up(str(place.hostname), int(place.port or 0), json.dumps(body).encode(), draw)
        quiet(house)
        known = house.running.ledger.decision(decision)
        found["absent" if known is None else "there"] += 1
        if known is not None:
            require_whole(house, known)
        answer = house.ask_once("POST", "/v1/decisions", body, Role.allocate)
        assert answer.status == 200 and answer.json()["decision_id"] == decision
        if known is not None:
            assert answer.json()["state"] == known.state.value
        whole = house.running.ledger.decision(decision)
        assert whole is not None
        require_whole(house, whole)
        work(house, decision)
        if not house.running.ledger.latch().armed:
            house.arm()
    orders = require_one_order_each(house)
    seconds = time.perf_counter() - started
    print(
        f"hang-ups: {rounds}, seed {SEED}, {seconds:.0f} s; decisions then {dict(found)}, 0 half,"
        f" {orders} orders sent"
    )
    assert found["absent"] and found["there"] and orders > rounds / 2
    assert house.ask_once("GET", "/healthz", b"", None).status == 200


def hang_up(host: str, port: int, content: bytes, draw: Random) -> None:
    """Send all of a request or a part of it, wait for some milliseconds, and be gone."""
    told = {**MESSAGE, "Host": f"{host}:{port}", "Content-Length": str(len(content))}
    head = "POST /v1/decisions HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in told.items())
    message = head.encode() + b"\r\n" + content
    cut = len(message) if draw.random() < 0.7 else draw.randrange(len(message))
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(message[:cut])
        time.sleep(draw.choice([0.0, 0.001, 0.003, 0.01, 0.03, 0.1]) * draw.random() * 2)
        if draw.random() < 0.5:  # with a reset, not with a goodbye
            linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR) if draw.random() < 0.3 else None


def quiet(house: Any) -> None:
    """Wait until nothing more is written."""
    last, since = house.head, time.monotonic()
    while time.monotonic() - since < 0.15:
        time.sleep(0.02)
        if house.head != last:
            last, since = house.head, time.monotonic()


def require_whole(house: Any, known: Any) -> None:
    """Require a judged decision: all orders of an accepted one, none of a refused one."""
    orders = house.running.ledger.orders(decision_id=known.decision.id)
    if known.state is DecisionState.refused:
        assert orders == [] and known.reasons
    else:
        assert known.state in (DecisionState.accepted, DecisionState.done)
        (log,) = [
            one
            for one in house.running.ledger.rebalances(known.received_at.date())
            if one.decision_id == known.decision.id
        ]
        planned = [one["request"]["client_order_id"] for one in json.loads(log.body)["orders"]]
        assert sorted(planned) == sorted(order.client_order_id for order in orders)
