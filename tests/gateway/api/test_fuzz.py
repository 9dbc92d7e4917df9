"""The gateway's service against its own OpenAPI description, with and without credentials.

Schemathesis draws right and wrong requests and judges each answer: no server error, a status,
headers and a body as they were described, right questions answered, wrong ones refused, and nothing
without a valid token. Beside it three rules of money: whatever is refused leaves no trace in the
ledger, whatever is accepted is a decision that keeps every rule, and nothing reaches the broker
that no accepted decision has planned.
"""

import json
import resource
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from math import ceil
from random import Random
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from schemathesis.generation import GenerationMode
from schemathesis.python import asgi
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from risk.access.refusals import App, Receive, Scope, Send
from risk.access.tokens import Role

CASES, SOAK_CASES = 600, 50_000  # each drawn request is two: of a stranger, and with a token
SEED = 20_230_601
ADMIN = {"Authorization": "Bearer admin-token-of-the-tests"}
SHARES = {  # of the cases, beside the others
    "POST /v1/decisions": 0.4,
    "GET /v1/decisions/{decision_id}": 0.14,
    "POST /v1/arm": 0.1,
    "POST /v1/limits": 0.1,
    "POST /v1/kill": 0.02,
}
OTHERS = 0.04  # what is not named above and takes an input
BATCH = 1_000  # of one kind: Hypothesis keeps what it has drawn until a batch is over
SPOILT = 0.02  # of the cases: a right decision with a node or two of it changed
OPEN = ("GET /healthz", "GET /readyz")
# A conflict with what is known cannot be told from a schema; a size neither.
BEYOND_THE_SCHEMA = {409, 413}
# Nor can a sum, a limit that must be named, or which of all letters can be printed.
UNTOLD = ("weights sum to", "limits", "one line of words")
SLOWEST_S = 5.0  # of one answer, on a machine with other work


class Near:
    """The application as this machine's callers reach it: the test's client names no address."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope | {"client": ("127.0.0.1", 1)}, receive, send)


class Fuzz:
    """Sends requests and keeps what came of them.

    Args:
        house: the gateway.
    """

    def __init__(self, house: Any) -> None:
        self.house = house
        self.app = Near(house.app)
        self.client = asgi.get_client(self.app)
        document = schemathesis.openapi.from_asgi("/openapi.json", self.app, headers=ADMIN)
        self.operations = {f.ok().label: f.ok() for f in document.get_all_operations()}
        self.inside: Counter[int] = Counter()
        self.outside: Counter[int] = Counter()
        self.draw = Random(SEED)
        self.slowest = 0.0

    def send_all(self, cases: int) -> None:
        """Send requests of every kind; what takes no input has one."""
        varied = [label for label, one in self.operations.items() if takes_input(one)]
        whole = sum(SHARES.get(label, OTHERS) for label in varied)
        for label in self.operations:
            if label not in varied:
                self.send(label, GenerationMode.POSITIVE, 1)
                continue
            drawn = ceil(cases / 2 * SHARES.get(label, OTHERS) / whole / len(GenerationMode))
            for mode in GenerationMode:
                for done in range(0, drawn, BATCH):
                    self.send(label, mode, min(BATCH, drawn - done))

    def send(self, label: str, mode: GenerationMode, drawn: int) -> None:
        """Send so many requests of one kind, each first as a stranger."""
        operation = self.operations[label]

        @seed(self.draw.getrandbits(32))
        @settings(
            max_examples=drawn, deadline=None, database=None, derandomize=False,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def sent(case: Any) -> None:
            before = self.house.head
            reply = self._timed(case, strange(self.draw))
            assert reply.status_code in ((200, 503) if label in OPEN else (401,)), reply.text
            self.outside[reply.status_code] += 1
            assert self.house.head == before, "a stranger left a trace"
            reply = self._timed(case, ADMIN)
            self.inside[reply.status_code] += 1
            if reply.status_code != 200:
                assert self.house.head == before, "a refused request left a trace"
            self._judge(case, reply)

        sent()

    def _timed(self, case: Any, headers: dict[str, str]) -> Any:
        started = time.perf_counter()
        reply = case.call(session=self.client, headers=headers)
        self.slowest = max(self.slowest, time.perf_counter() - started)
        return reply

    def _judge(self, case: Any, reply: Any) -> None:
        excluded: list[Any] = []
        if reply.status_code in BEYOND_THE_SCHEMA:
            excluded = [negative_data_rejection, positive_data_acceptance]
        elif any(words in reply.text for words in UNTOLD):
            excluded = [positive_data_acceptance]
        case.validate_response(reply, headers=ADMIN, excluded_checks=excluded)


def takes_input(operation: Any) -> bool:
    """Return whether anything can be varied in an operation."""
    return bool(list(operation.body) or list(operation.path_parameters))


@pytest.fixture
def fuzz(house: Any) -> Fuzz:
    return Fuzz(house)


def strange(draw: Random) -> dict[str, str]:
    """Draw what is shown by callers that may not come in."""
    near = ["admin-token-of-the-test", "admin-token-of-the-tests,", "admin token-of-the-tests"]
    word = "".join(map(chr, draw.choices(range(33, 127), k=draw.randrange(1, 60))))
    scheme = draw.choice(["Bearer ", "bearer ", "Basic ", "Tercet ", "Tercet key=", "Digest ", ""])
    return draw.choice([{}, {"Authorization": scheme + draw.choice([*near, word, word])}])


@pytest.mark.timeout(3600)
def test_nobody_breaks_the_service_or_comes_in_uninvited(fuzz: Fuzz, soak: bool) -> None:
    cases = SOAK_CASES if soak else CASES
    assert SHARES.keys() < fuzz.operations.keys()
    house, before, started = fuzz.house, peak_kib(), time.perf_counter()
    fuzz.send_all(cases)
    inside, outside = fuzz.inside, fuzz.outside
    spoilt = spoil_decisions(house, max(10, round(cases * SPOILT)), Random(SEED))
    total = sum((inside + outside + spoilt).values())
    print(
        f"api fuzz: {total} cases, seed {SEED}, "
        f"{time.perf_counter() - started:.0f} s; with a token {dict(inside)}, "
        f"without {dict(outside)}, spoilt decisions {dict(spoilt)}; slowest {fuzz.slowest:.2f} s, "
        f"memory +{(peak_kib() - before) / 1024:.0f} MiB, the drawing's own too"
    )
    assert total >= cases and inside.total() == outside.total()
    # A wrong request may be wrong by its token: Schemathesis takes ours away from some of them.
    seen = {200, 400, 401, 404, 409, 422}
    assert seen <= inside.keys() <= {*seen, 413, 415, 503}
    assert inside[503] <= 1  # the thread of this gateway rests, and readyz says so
    assert outside[401] == sum(outside.values()) - len(OPEN)
    assert fuzz.slowest < SLOWEST_S
    require_planned(house)


def spoil_decisions(house: Any, cases: int, draw: Random) -> Counter[int]:
    """Offer right decisions with something changed; what is accepted keeps every rule."""
    found: Counter[int] = Counter()
    for _ in range(cases):
        house.permit()
        if not house.running.ledger.latch().armed:
            house.arm()
        mode = draw.choice(["paper", "dry_run"])
        body = house.request(mode=mode, S000=f"0.0{draw.randint(1, 9)}", S003="0.02")
        for _ in range(draw.choice([0, 1, 1, 1, 2])):
            spoil(body, draw)
        before = house.head
        reply = house.ask_once("POST", "/v1/decisions", body, Role.allocate)
        found[reply.status] += 1
        assert reply.status in (200, 400, 409, 422), (body, reply.body)
        if reply.status != 200:
            assert house.head == before, body
        elif reply.json()["state"] != "refused":
            require_right(house, body)
    assert found[200] and found[422]
    return found


def spoil(record: dict[str, Any], draw: Random) -> None:
    """Change or take away one node of a JSON record."""
    nodes = list(leaves(record))
    node, last = draw.choice(nodes)
    if draw.random() < 0.15:
        del node[last]
    elif draw.random() < 0.2 and isinstance(node, dict):
        node[draw.choice(WORDS)] = draw.choice([*NUMBERS, *WORDS])
    else:
        node[last] = draw.choice([*NUMBERS, *WORDS, [], {}, None, True])


NUMBERS = [
    "0.05", "-0.05", "0", "-0", "1", "1.01", "NaN", "1e-2", "+0.1", " 0.1", "٠.١", 0.05,
    1e308, -1, "999999999999.999999999999999999", "0." + "0" * 17 + "1",
]  # fmt: skip
WORDS = [
    "", "S001", "s000", "ЅOOO", "S000 ", "CASH", "BRK.B", "live", "paper", "f" * 64,
    "2023-05-31", "2023-06-01T20:00:00+00:00", "2099-01-01T00:00:00Z", "PA0", "\x00", "two",
]  # fmt: skip


def leaves(value: Any) -> Any:
    """Return every node of a JSON value with the key under which it stands."""
    for key, one in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(one, dict | list):
            yield from leaves(one)


def require_right(house: Any, body: dict[str, Any]) -> None:
    """Judge an accepted decision by the rules as a person would write them down."""
    asked = body["allocation"]
    weights = {name: Decimal(str(weight)) for name, weight in asked["weights"].items()}
    assert body["account"] == house.account and body["mode"] in ("paper", "dry_run")
    assert asked["model"]["sha256"] == "a" * 64 and asked["as_of"] == "2023-05-31"
    assert abs(sum(weights.values()) - 1) <= Decimal("1e-6")
    assert all(0 <= weight <= 1 for weight in weights.values())
    assert {name for name, weight in weights.items() if weight} <= {"CASH", *house.names}
    agents = asked["agents"]
    assert len(agents) >= 2 and sum(Decimal(str(a["share"])) for a in agents.values()) == 1
    for agent in agents.values():
        theirs = {name: Decimal(str(weight)) for name, weight in agent["weights"].items()}
        assert all(0 <= weight <= 1 for weight in theirs.values())


def require_planned(house: Any) -> None:
    """Let the gateway send what it wants to send: all of it is of accepted decisions."""
    for _ in range(5):
        house.permit()
        house.running.gateway.step()
        house.admin("PUT", "/clock", {"advance_s": 60})
    ledger = house.running.ledger
    accepted = {one.decision.id for one in house.decisions() if one.state.value != "refused"}
    planned = {one.client_order_id for one in ledger.orders() if one.decision_id in accepted}
    sent = [one["client_order_id"] for one in house.posted()]
    assert set(sent) <= planned and len(set(sent)) == len(sent)


def peak_kib() -> int:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_sample_over_a_real_socket_is_answered_alike(
    house: Any, listening: Callable[..., str]
) -> None:
    import requests

    url = listening(house.app)
    draw = Random(SEED)
    seen: Counter[int] = Counter()
    for _ in range(30):
        body = house.request(mode="dry_run", S000="0.05")
        spoil(body, draw)
        content, before = json.dumps(body).encode(), house.head
        told = {"Content-Type": "application/json"}
        stranger = requests.post(f"{url}/v1/decisions", content, headers=told, timeout=30)
        assert stranger.status_code == 401 and house.head == before
        over = requests.post(f"{url}/v1/decisions", content, headers=told | ADMIN, timeout=30)
        seen[over.status_code] += 1
        again = house.ask_once("POST", "/v1/decisions", content)
        assert over.status_code == again.status
        if over.status_code != 200:
            assert house.head == before and over.content == again.body
    print(f"over a socket: 60 requests, {dict(seen)} with a token")
    assert seen.keys() <= {200, 422, 409} and seen[422]
