"""Requests made to harm: each is refused in bounded time and memory, and changes nothing.

The corpus is by hand, beside what is drawn in test_fuzz.py: what readers of JSON disagree about,
names that only look alike, numbers that no bank would read, sizes, depths, and what was asked
before.
"""

import gc
import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import requests

from risk.access.tokens import Role
from risk.gateway.service import ROUTES

SLOWEST_S = 3.0  # on a machine with other work; a right one takes milliseconds
MOST_BYTES = 96 << 20  # of memory for one request; the largest body has one million
MEGABYTE = 1_000_000


def right(house: Any) -> dict[str, Any]:
    body: dict[str, Any] = house.request("7" * 64, S000="0.05")
    return body


def raw(house: Any, old: str, new: str) -> bytes:
    """Return a right body with some of its text replaced, as no JSON library would write it."""
    text = json.dumps(right(house), ensure_ascii=False)
    assert old in text, old
    return text.replace(old, new, 1).encode("utf-8", "surrogatepass")


TEXTS: dict[str, tuple[str, str]] = {
    "not a number": ('"0.05"', "NaN"),
    "infinity": ('"0.05"', "Infinity"),
    "minus infinity": ('"0.05"', "-Infinity"),
    "a number beyond floats": ('"0.05"', "1e400"),
    "a number of a million digits": ('"0.05"', "0." + "1" * 900_000),
    "a big exponent": ('"0.05"', '"1e999999999"'),
    "an exponent": ('"0.05"', '"5e-2"'),
    "not a number as text": ('"0.05"', '"NaN"'),
    "signalling": ('"0.05"', '"sNaN"'),
    "a space": ('"0.05"', '" 0.05"'),
    "an underscore": ('"0.05"', '"0.0_5"'),
    "a comma": ('"0.05"', '"0,05"'),
    "another script": ('"0.05"', '"٠.٠٥"'),
    "wide digits": ('"0.05"', '"０.０５"'),
    "hexadecimal": ('"0.05"', '"0x1"'),
    "too exact": ('"0.05"', '"0.0500000000000000001"'),
    "too large": ('"0.05"', '"1000000000000"'),
    "true": ('"0.05"', "true"),
    "null": ('"0.05"', "null"),
    "a list": ('"0.05"', '["0.05"]'),
    "negative": ('"0.05"', '"-0.05"'),
    "a Cyrillic S": ('"S000": "0.05"', '"Ѕ000": "0.05"'),
    "a wide S": ('"S000": "0.05"', '"Ｓ000": "0.05"'),
    "zeros that are letters": ('"S000": "0.05"', '"SOOO": "0.05", "S00Ο": "0"'),
    "a zero of no width": ('"S000": "0.05"', '"S0\u200b00": "0.05"'),
    "a byte order mark": ('"S000": "0.05"', '"\ufeffS000": "0.05"'),
    "an accent": ('"S000": "0.05"', '"S\u0301000": "0.05"'),
    "from right to left": ('"S000": "0.05"', '"\u202eS000": "0.05"'),
    "lower case": ('"S000": "0.05"', '"s000": "0.05"'),
    "a line break": ('"S000": "0.05"', '"S000\\n": "0.05"'),
    "a zero byte": ('"S000": "0.05"', '"S000\\u0000": "0.05"'),
    "half a character": ('"S000": "0.05"', '"\\ud800": "0.05"'),
    "an empty name": ('"S000": "0.05"', '"": "0.05"'),
    "a path": ('"S000": "0.05"', '"../../etc": "0.05"'),
    "the same name twice": ('"S000": "0.05"', '"S000": "0.05", "S000": "0.05"'),
    "the same name escaped": ('"S000": "0.05"', '"S000": "0.05", "\\u0053000": "0.05"'),
    "the account twice": ('"account":', '"account": "PA0", "account":'),
    "one more field": ('"mode":', '"bypass": true, "mode":'),
    "one more field deep down": ('"expires_at":', '"limits": {}, "expires_at":'),
    "a prototype": ('"mode":', '"__proto__": {"mode": "live"}, "mode":'),
    "a class": ('"mode":', '"__class__": "os.system", "mode":'),
    "another mode": ('"mode": "paper"', '"mode": "PAPER"'),
    "no cash": ('"CASH": "0.95"', '"CASH ": "0.95"'),
    "a sum above one": ('"CASH": "0.95"', '"CASH": "0.950002"'),
    "a time without zone": ("+00:00", ""),
    "a time of another calendar": ('"expires_at": "2023', '"expires_at": "٢٠٢٣'),
    "a number for a time": ('"2023-06-01T20:00:00+00:00"', "1685649600"),
    "a day that is none": ('"as_of": "2023-05-31"', '"as_of": "2023-02-30"'),
    "a year of five digits": ('"as_of": "2023-05-31"', '"as_of": "12023-05-31"'),
    "an id in upper case": ("7" * 64, "A" * 64),
    "an id with a line break": ("7" * 64, "7" * 64 + "\\n"),
    "a longer id": ("7" * 64, "7" * 65),
    "a comment": ('"mode":', '/* */ "mode":'),
    "a comma at the end": ('"paper"', '"paper",'),
    "single quotes": ('"paper"', "'paper'"),
    "two documents": ('{"account"', '{}{"account"'),
    "a deep market": ('"regime": "calm"', '"regime": ' + "[" * 50 + "]" * 50),
    "a deeper market": ('"regime": "calm"', '"regime": ' + '{"a":' * 40_000 + "1" + "}" * 40_000),
    "many agents": (
        '"one": {', "".join(f'"a{i}": {{}}, ' for i in range(5000)) + '"one": {'),
    "many names": (
        '"S000": "0.05"', ", ".join(f'"A{i}": "0"' for i in range(40_000)) + ', "S000": "0.05"'),
}  # fmt: skip


def bodies() -> dict[str, bytes]:
    """Return what is no request at all."""
    return {
        "nothing": b"",
        "a space": b" ",
        "no JSON": b"{",
        "a list": b"[]",
        "a word": b'"paper"',
        "half a character": b'{"account":"\xff"}',
        "UTF-16": '{"account":"x"}'.encode("utf-16"),
        "UTF-32": '{"account":"x"}'.encode("utf-32"),
        "a byte order mark": b"\xef\xbb\xbf{}",
        "a pickle": b"\x80\x04cos\nsystem\n(S'id'\ntR.",
        "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>',
        "brackets": b"[" * MEGABYTE,
        "braces": b"{" * MEGABYTE,
        "an open string": b'"' + b"\\" * (MEGABYTE - 1),
        "quotes": b'"' * MEGABYTE,
        "zeros": b"\x00" * MEGABYTE,
        "digits": b"1" * MEGABYTE,
        "spaces": b" " * MEGABYTE,
        "a million and one bytes": b" " * (MEGABYTE + 1),
        "keys": b"{" + b",".join(b'"%d":1' % i for i in range(70_000)) + b"}",
        "the same key": b"{" + b",".join([b'"a":1'] * 160_000) + b"}",
        "colliding numbers": b"[" + b",".join(b"%d" % (i << 61) for i in range(30_000)) + b"]",
    }


def refused(house: Any, path: str, content: bytes, role: Role = Role.admin) -> None:
    before = house.head
    tracemalloc.start()
    started = time.perf_counter()
    reply = house.ask_once("POST", path, content, role)
    took = time.perf_counter() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reply.status in (400, 413, 422), (reply.status, reply.body)
    assert took < 3 * SLOWEST_S and peak < MOST_BYTES, (took, peak)
    assert house.head == before
    reason = reply.json()["error"]["reason"]
    assert reason.isascii() and reason.isprintable() and len(reason) < 1000


def test_a_poisoned_decision_is_refused_and_leaves_no_trace(house: Any) -> None:
    for name, (old, new) in TEXTS.items():
        try:
            refused(house, "/v1/decisions", raw(house, old, new), Role.allocate)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
    assert house.decisions() == [] and house.posted() == []
    accepted = house.ask_once("POST", "/v1/decisions", right(house), Role.allocate)
    assert accepted.json()["state"] == "accepted", "what the others were made of is not right"
    print(f"poisoned decisions: {len(TEXTS)} kinds, all refused without a trace")


def test_what_is_no_request_is_refused_by_every_route(house: Any) -> None:
    routes = [route.path for route in ROUTES if route.body]
    for path in routes:
        for name, content in bodies().items():
            if len(content) > 1000 and path != "/v1/decisions":
                continue  # large ones are refused before a route is reached, or as there
            try:
                refused(house, path, content)
            except AssertionError as error:
                raise AssertionError(f"{path}, {name}: {error}") from error
    assert house.running.ledger.latch().armed and house.posted() == []
    print(f"no requests: {len(routes)} routes x {len(bodies())} kinds, all refused without a trace")


def test_what_was_refused_leaves_no_memory_behind(house: Any) -> None:
    text = json.dumps(right(house))
    kinds = [text.replace('"0.05"', f'"0.05{i}x"').encode() for i in range(5)] + [b"{", b"[1]"]

    def ask(times: int) -> int:
        for i in range(times):
            reply = house.ask_once("POST", "/v1/decisions", kinds[i % len(kinds)], Role.allocate)
            assert reply.status in (400, 422)
            assert house.ask_once("POST", f"/v1/{i}", b"", None).status == 401
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    before = ask(100)
    grown = ask(200) - before
    tracemalloc.stop()
    assert grown < 100_000, f"{grown} bytes more after 400 refused requests"


@pytest.mark.parametrize("zero", ["-0", "-0.0", "0.000000", -0.0, 0])
def test_every_zero_is_the_same_zero(house: Any, zero: Any) -> None:
    body = right(house)
    first = house.ask_once("POST", "/v1/decisions", body, Role.allocate).json()
    for book in (body["allocation"]["weights"], body["allocation"]["agents"]["one"]["weights"]):
        book["S001"] = zero
    again = house.ask_once("POST", "/v1/decisions", body, Role.allocate)
    assert again.status == 200 and again.json()["orders"] == first["orders"]
    assert len(house.decisions()) == 1


def test_a_name_that_is_not_traded_is_refused_whatever_it_resembles(house: Any) -> None:
    for name in ("SOOO", "S00", "S0000", "S000.", "S000=X", "CASH.", "^S000"):
        house.permit()
        body = house.request(**{name: "0.05"})
        reply = house.ask_once("POST", "/v1/decisions", body, Role.allocate)
        assert reply.status == 200 and reply.json()["state"] == "refused", reply.body
        assert reply.json()["orders"] == []
        if not house.running.ledger.latch().armed:
            house.arm()
    assert house.posted() == []


def test_the_same_request_smuggled_twice_over_a_socket_is_one_or_none(
    house: Any, listening: Callable[..., str]
) -> None:
    """Two lengths, a length and chunks, a second request in the body: one reading or a refusal."""
    import socket
    from urllib.parse import urlsplit

    place = urlsplit(listening(house.app))
    content = json.dumps(right(house)).encode()
    start = (
        f"POST /v1/decisions HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        "Authorization: Bearer read-token-of-the-tests\r\nConnection: close\r\n"
    )
    inner = start.replace("Bearer read", "Bearer wrong").encode() + (
        f"Content-Length: {len(content)}\r\n\r\n".encode() + content
    )
    chunk = f"{len(content):x}\r\n".encode() + content + b"\r\n0\r\n\r\n"
    for framing in (
        f"Content-Length: {len(content)}\r\nContent-Length: 5\r\n\r\n".encode() + content,
        f"Content-Length: {len(content)}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunk,
        b"Transfer-Encoding: chunked, identity\r\n\r\n" + chunk,
        b"Content-Length: 0\r\n\r\n" + inner,
        b"Content-Length: +5\r\n\r\n" + content,
        b"Content-Length: 5 \r\n Content-Length: 6\r\n\r\n" + content,
        b"Content-Length: 5\r\n\nX: y\r\n\r\n" + content,
    ):
        before = house.head
        with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
            connection.settimeout(10)
            connection.sendall(start.encode() + framing)
            answer = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))
        assert b" 200 " not in answer.split(b"\r\n")[0], answer
        assert answer.count(b"HTTP/1.1 200") == 0 and house.head == before
    reply = requests.get(f"http://{place.netloc}/healthz", timeout=10)
    assert reply.status_code == 200
