"""Who may ask the gateway what: every route, every role, every way to have no right to it.

A stranger is answered before a byte of the body is read, a body that is not the signed one before
it is parsed, and both are seen in the log and the audit, where they can fill neither.
"""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import requests

from risk.access.routes import Route
from risk.access.signed import AHEAD_MS, OLDEST_MS, Asked, SigningKey
from risk.access.tokens import Role
from risk.gateway.alarms import Alarm
from risk.gateway.front import KIND
from risk.gateway.service import ROUTES

PATHS = [
    (route, route.path.replace("{decision_id}", "0" * 64).replace("{asset}", "start.js"))
    for route in ROUTES
]
CLOSED = [(route, path) for route, path in PATHS if route.role is not None]
STOP = b'{"reason":"a person wants it"}'
# What a caller shows who has no right to anything.
STRANGERS = {
    "nothing": None,
    "an empty header": "",
    "no word": "Bearer",
    "a wrong token": "Bearer wrong-token-of-the-tests",
    "a token with a comma": "Bearer admin-token-of-the-tests, x",
    "a part of a token": "Bearer admin-token-of-the-test",
    "a password": "Basic YWRtaW46YWRtaW4=",
    "another scheme": "Digest admin-token-of-the-tests",
    "a signature of another form": "Tercet admin-token-of-the-tests",
}
# What a caller shows who has the key, but not this request.
DEFECTS = ("expired", "early", "replayed", "another path", "another host", "an unknown key")


async def never() -> Any:
    raise AssertionError("the body was read")


def made(path: Path) -> SigningKey:
    """Make a key as a person does."""
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    path.chmod(0o600)
    return SigningKey(path)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[Role, SigningKey]:
    folder = tmp_path_factory.mktemp("keys")
    return {role: made(folder / f"{role.name}.pem") for role in Role}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return made(tmp_path_factory.mktemp("stranger") / "key.pem")


@pytest.fixture
def signed_house(house: Any, keys: dict[Role, SigningKey], monkeypatch: Any) -> Any:
    """Return a house that has known these keys for long."""
    now = int(time.time() * 1000)
    monkeypatch.setattr("risk.access.signed._now_ms", lambda: now - 10 * OLDEST_MS)
    house.app = house.open_app({key.line: role for role, key in keys.items()})
    monkeypatch.undo()
    return house


def shown(key: SigningKey, method: str, path: str, body: bytes = b"", age_ms: int = 0) -> str:
    at = int(time.time() * 1000) - age_ms
    return key.header(Asked(method, b"gateway:1", path.encode()), body, at)


def test_a_stranger_reaches_nothing_and_no_body_is_read(house: Any) -> None:
    before = house.head
    for (route, path), (kind, header) in product(CLOSED, STRANGERS.items()):
        headers = {"content-length": str(1 << 40)}
        headers |= {} if header is None else {"authorization": header}
        reply = house.ask_once(route.method, path, b"", None, headers, never)
        assert (reply.status, reply.code) == (401, "unauthenticated"), (route, kind)
        assert "Bearer" in reply.headers["www-authenticate"]
    assert house.head == before


def test_each_role_opens_its_routes_and_no_others(signed_house: Any, keys: Any) -> None:
    house = signed_house
    for (route, path), role in product(CLOSED, Role):
        body = STOP if route.path == "/v1/kill" else b"{}" if route.body else b""
        signature = {"authorization": shown(keys[role], route.method, path, body)}
        before = house.head
        if role < route.role:
            by_token = house.ask_once(route.method, path, b"", role, receive=never)
            by_key = house.ask_once(route.method, path, b"", None, signature, never)
            assert (by_token.status, by_key.status) == (403, 403), route
            assert by_token.code == by_key.code == "forbidden"
            assert house.head == before
        else:
            by_token = house.ask_once(route.method, path, body, role)
            by_key = house.ask_once(route.method, path, body, None, signature)
            assert by_token.status == by_key.status in (200, 404, 422), (route, by_token.body)


def test_a_signature_of_anything_else_opens_nothing(
    signed_house: Any, keys: Any, stranger: SigningKey
) -> None:
    house, key = signed_house, keys[Role.admin]
    for (route, path), defect in product(CLOSED, DEFECTS):
        if defect == "replayed":
            body = STOP if route.path == "/v1/kill" else b"{}"
            header = shown(key, route.method, path, body)
            first = house.ask_once(route.method, path, body, None, {"authorization": header})
            assert first.status not in (401, 403)
        else:
            age = {"expired": OLDEST_MS + 1000, "early": -AHEAD_MS - 1000}.get(defect, 0)
            other = path + "x" if defect == "another path" else path
            header = shown(
                stranger if defect == "an unknown key" else key, route.method, other, b"{}", age
            )
        before = house.head
        headers = {"authorization": header}
        headers |= {"host": "gateway:2"} if defect == "another host" else {}
        reply = house.ask_once(route.method, path, b"", None, headers, never)
        assert (reply.status, reply.code) == (401, "unauthenticated"), (route, reply.body)
        assert house.head == before


def test_another_body_than_the_signed_one_is_not_parsed(signed_house: Any, keys: Any) -> None:
    house, before = signed_house, signed_house.head
    for body in (b"", b"{", b"[" * 100_000, STOP + b" ", STOP.replace(b"a", b"b")):
        headers = {"authorization": shown(keys[Role.admin], "POST", "/v1/kill", STOP)}
        reply = house.ask_once("POST", "/v1/kill", body, None, headers)
        assert (reply.status, reply.code) == (401, "unauthenticated")
    assert house.head == before and house.running.ledger.latch().armed


def test_a_signed_decision_is_taken_once_over_a_real_socket(
    signed_house: Any, keys: Any, listening: Callable[..., str]
) -> None:
    house = signed_house
    url = listening(house.app)
    body = house.request(S000="0.05")
    path = f"{url}/v1/decisions"
    sent = requests.Request("POST", path, json=body, auth=keys[Role.allocate]).prepare()
    with requests.Session() as session:
        assert session.send(sent).json()["state"] == "accepted"
        before = house.head
        again = session.send(sent)
        assert again.status_code == 401 and "before" in again.text
        sent.headers.pop("Authorization")
        assert session.send(sent).status_code == 401
    assert house.head == before and len(house.decisions()) == 1
    assert "token" not in json.dumps(dict(sent.headers)).lower()


def test_a_token_that_others_can_read_on_the_wire_is_not_taken(
    signed_house: Any, keys: Any
) -> None:
    house = signed_house
    for client in (("10.0.0.7", 1), ("::ffff:10.0.0.7", 1), ("x", 1), None):
        for route, path in CLOSED:
            reply = house.ask_once(route.method, path, b"", receive=never, client=client)
            assert (reply.status, reply.code) == (401, "unauthenticated")
        asked: Any = ("GET", "/v1/state", b"")
        assert house.ask_once(*asked, client=client, scheme="https").status == 200
        signature = {"authorization": shown(keys[Role.read], "GET", "/v1/state")}
        assert house.ask_once(*asked, None, signature, client=client).status == 200
        assert house.ask_once("GET", "/healthz", b"", None, client=client).status == 200
    for client in (("127.0.0.1", 1), ("127.8.8.8", 1), ("::1", 1)):
        assert house.ask_once(*asked, client=client).status == 200


def test_guessing_is_slowed_and_locks_nobody_out(
    signed_house: Any, keys: Any, stranger: SigningKey
) -> None:
    house = signed_house
    lines = {key.line: role for role, key in keys.items()}
    house.app = house.open_app(lines, failures_per_minute=5, requests_per_minute=1000)
    before = house.head
    guesses = ["Bearer guess-guess-guess-guess", shown(stranger, "GET", "/v1/state")]
    replies = [
        house.ask_once("GET", "/v1/state", b"", None, {"authorization": guesses[i % 2]}, never)
        for i in range(20)
    ]
    assert [reply.status for reply in replies[:3]] == [401] * 3 and replies[-1].status == 429
    assert int(replies[-1].headers["retry-after"]) >= 1
    assert house.ask_once("GET", "/v1/state", b"", Role.read).status == 200
    assert house.head == before


def test_a_kill_is_let_in_however_much_was_asked(house: Any) -> None:
    house.app = house.open_app(requests_per_minute=3, failures_per_minute=1, max_in_flight=1)
    asked = [house.ask_once("GET", "/v1/state", b"", Role.allocate).status for _ in range(10)]
    assert 429 in asked
    reply = house.ask_once("POST", "/v1/kill", STOP, Role.allocate)
    assert reply.status == 200 and reply.json()["latch"]["tripped"]


def test_what_was_refused_is_seen_in_log_and_audit_once_a_minute(
    open_house: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    house = open_house(interval_s=0.05)
    for _ in range(50):
        assert house.ask_once("POST", "/v1/decisions", b"{}", None).status == 401
        assert house.ask_once("POST", "/v1/arm", b"{}", Role.allocate).status == 403
        assert house.ask_once("POST", "/v1/decisions", b"{}", Role.allocate).status == 422
        assert house.ask_once("PUT\n", "/etc/\x1b[2J", b"{}", None).status == 401
        assert house.ask_once("GET", "/v1/decisions/" + "0" * 64, b"").status == 404
    end = time.monotonic() + 20.0
    while not (found := records(house)) and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)
    found = records(house)
    assert len(found) == 1 and len(json.dumps(found[0])) < 1000
    rest = house.running.refused
    counts = {key: found[0]["counts"].get(key, 0) + rest._counts[key] for key in
              {*found[0]["counts"], *rest._counts}}  # fmt: skip
    assert sum(counts.values()) == 200 and set(counts.values()) == {50}
    kinds = {" ".join(key.split(" ")[:3]) for key in counts}
    assert kinds == {
        "unauthenticated POST /v1/decisions", "forbidden POST /v1/arm",
        "invalid POST /v1/decisions", "unauthenticated OTHER other",
    }  # fmt: skip
    said = [one for one in caplog.records if getattr(one, "alarm", None) is Alarm.strangers]
    assert len(said) == 1 and said[0].getMessage().isprintable()
    walked = house.ask_once("GET", "/v1/audit/verify", b"").json()
    assert walked["ok"], walked["problems"]


def records(house: Any) -> list[Any]:
    with house.running.ledger.reading() as connection:
        rows = connection.exec_driver_sql("SELECT body FROM audit").scalars().all()
    bodies = [json.loads(row) for row in rows]
    return [one["payload"] for one in bodies if one["kind"] == KIND]


def test_every_route_that_changes_anything_needs_more_than_to_read() -> None:
    table: list[Route] = [route for route, _ in CLOSED]
    assert {route.role for route in table if route.method == "GET" and route.role} <= set(Role)
    changing = [route for route in table if route.method != "GET"]
    assert changing and all(route.role >= Role.allocate for route in changing if route.role)
    assert not any(route.browser for route in changing)
    assert [route.path for route in table if route.urgent] == ["/v1/kill"]


def test_no_refusal_waits_for_those_in_work(house: Any) -> None:
    """The bodies of a hundred callers drip; the next stranger is answered at once."""

    async def story() -> float:
        async def dripping() -> Any:
            await asyncio.sleep(0.2)
            return {"type": "http.request", "body": b" ", "more_body": True}

        slow = [
            asyncio.create_task(house.ask("POST", "/v1/decisions", b"", receive=dripping))
            for _ in range(100)
        ]
        await asyncio.sleep(0.3)
        started = time.perf_counter()
        reply = await house.ask("POST", "/v1/decisions", b"", None, receive=never)
        assert reply.status == 401
        took = time.perf_counter() - started
        for one in slow:
            one.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        return took

    assert asyncio.run(story()) < 0.5
