"""Requests are sent once, end in time and keep their digits, over real sockets."""

import datetime
import ipaddress
import socket
import ssl
import threading
from decimal import Decimal
from pathlib import Path
from time import monotonic, sleep

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from brokers.one_shot import FAILURES, NoAnswer, OneShotAdapter, OutOfTime, Timeouts

TIMEOUTS = Timeouts(connect_s=0.5, read_s=0.5)
SLACK_S = 0.5  # of a busy machine


def session(timeouts=TIMEOUTS) -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    for scheme in ("http://", "https://"):
        made.mount(scheme, OneShotAdapter(timeouts))
    return made


def answering(status: int, body: bytes, *headers: str):
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}", *headers, "", ""]

    def script(connection, request):
        connection.sendall("\r\n".join(lines).encode() + body)

    return script


def silent(connection, request):
    connection.recv(1)  # until the client hangs up


def trickling(start: bytes):
    def script(connection, request):
        connection.sendall(start)
        for _ in range(100):
            sleep(0.05)
            connection.sendall(b".")

    return script


def resetting(connection, request):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def trickle_header():
    return trickling(b"HTTP/1.1 200 OK\r\nX-Slow: ")


def trickle_body():
    return trickling(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[ssl.SSLContext, Path]:
    """Return a server's TLS and the file of its certificate, which nobody signed."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    (folder / "key").write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "certificate").write_bytes(made.public_bytes(encoding))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    return context, folder / "certificate"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_error_is_sent_once_even_where_the_server_asks_for_another_attempt(wire, status):
    server = wire(answering(status, b"{}", "Retry-After: 0"))
    assert session().post(server.url, json={}).status_code == status
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "script",
    [
        resetting,
        answering(302, b'{"id": "1"}', "Location: /elsewhere"),
        answering(307, b"{}", "Location: /elsewhere"),
        answering(200, b""),
        lambda connection, _: connection.shutdown(socket.SHUT_RDWR),
        lambda connection, _: connection.sendall(b"no HTTP\r\n\r\n"),
        lambda connection, _: (
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"),
            connection.shutdown(socket.SHUT_RDWR),
        ),
        lambda connection, _: (
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
            connection.shutdown(socket.SHUT_RDWR),
        ),
        answering(200, b"no gzip", "Content-Encoding: gzip"),
    ],
    ids=["reset", "302", "307", "empty", "hung up", "noise", "cut", "cut chunks", "gzip"],
)
def test_what_is_no_answer_is_an_error_and_is_sent_once(wire, script):
    server = wire(script)
    with pytest.raises(FAILURES):
        session().post(server.url, json={}, allow_redirects=False)
    assert len(server.requests) == 1


def test_nothing_is_an_answer_where_nothing_was_due(wire):
    assert session().delete(wire(answering(204, b"")).url).content == b""


def test_a_silent_server_costs_the_read_timeout(wire):
    server = wire(silent)
    began = monotonic()
    with pytest.raises(requests.exceptions.Timeout):
        session().post(server.url, json={})
    assert TIMEOUTS.read_s <= monotonic() - began < TIMEOUTS.total_s + SLACK_S
    assert len(server.requests) == 1


def test_the_timeout_of_a_caller_changes_nothing(wire):
    began = monotonic()
    with pytest.raises(requests.exceptions.Timeout):
        session().post(wire(silent).url, json={}, timeout=60)
    assert monotonic() - began < TIMEOUTS.total_s + SLACK_S


@pytest.mark.parametrize("script", [trickle_header(), trickle_body()], ids=["header", "body"])
def test_an_answer_that_trickles_in_is_given_up_in_time(wire, script):
    server = wire(script)
    began = monotonic()
    with pytest.raises(OutOfTime):
        session().post(server.url, json={})
    assert TIMEOUTS.total_s <= monotonic() - began < TIMEOUTS.total_s + SLACK_S
    assert len(server.requests) == 1


def test_requests_that_were_given_up_leave_no_thread_behind(wire):
    server = wire(trickle_header())
    for _ in range(3):
        with pytest.raises(OutOfTime):
            session(Timeouts(0.1, 0.1)).post(server.url, json={})
    end = monotonic() + 2.0
    while monotonic() < end and any(t.name == "broker request" for t in threading.enumerate()):
        sleep(0.01)
    assert not any(t.name == "broker request" for t in threading.enumerate())


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_name_that_is_found_too_late_gets_nothing_sent(wire, certificate, monkeypatch, tls):
    server = wire(answering(200, b"{}"), certificate[0] if tls else None)
    used, late = session(), session(Timeouts(0.1, 0.1))
    used.verify = late.verify = str(certificate[1])
    used.post(server.url, json={"order": 0})
    assert len(server.requests) == 1
    found, look_up = threading.Event(), socket.getaddrinfo

    def slow(*arguments, **options):
        found.wait(5)
        return look_up(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    began = monotonic()
    with pytest.raises(OutOfTime):
        late.post(server.url, json={"order": 1})
    assert monotonic() - began < 0.2 + SLACK_S
    found.set()
    sleep(0.4)  # what hung goes on, and finds that nobody wants it any more
    assert len(server.requests) == 1


def test_a_request_that_nobody_waits_for_any_more_is_not_sent(wire, monkeypatch):
    server = wire(answering(200, b"{}"))
    wait = threading.Event.wait

    def interrupted(event, timeout=None):
        if timeout == TIMEOUTS.total_s:
            raise KeyboardInterrupt
        return wait(event, timeout)

    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: (sleep(0.2), look_up(*a, **k))[1])
    monkeypatch.setattr(threading.Event, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session().post(server.url, json={})
    sleep(0.5)
    assert server.requests == []


def test_connections_are_used_again(wire):
    peers = []

    def script(connection, request):
        peers.append(connection.getpeername())
        answering(200, b"{}")(connection, request)

    server, used = wire(script), session()
    for _ in range(20):
        used.get(server.url)
    assert len(peers) == 20
    assert len(set(peers)) == 1


def test_a_connection_that_was_closed_meanwhile_is_replaced_and_nothing_is_sent_twice(wire):
    def script(connection, request):
        answering(200, b"{}")(connection, request)
        connection.shutdown(socket.SHUT_RDWR)

    server, used = wire(script), session()
    for _ in range(5):
        used.post(server.url, json={})
        sleep(0.02)
    assert len(server.requests) == 5


def test_many_threads_get_each_their_own_answer(wire):
    def script(connection, request):
        answering(200, request.split()[1].encode())(connection, request)

    server, used, wrong = wire(script), session(), []

    def ask(number):
        for turn in range(20):
            path = f"/{number}/{turn}"
            if used.get(server.url + path).text != path:
                wrong.append(path)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(server.requests) == 160


def test_a_certificate_that_nobody_signed_gets_nothing_sent(wire, certificate):
    server = wire(answering(200, b"{}"), certificate[0])
    with pytest.raises(requests.exceptions.SSLError):
        session().post(server.url, json={})
    assert server.requests == []


@pytest.mark.parametrize("script", [silent, trickle_header()], ids=["silent", "trickle"])
def test_tls_ends_in_time_too(wire, certificate, script):
    server, used = wire(script, certificate[0]), session()
    used.verify = str(certificate[1])
    began = monotonic()
    with pytest.raises(requests.exceptions.Timeout):
        used.post(server.url, json={})
    assert monotonic() - began < TIMEOUTS.total_s + SLACK_S
    assert len(server.requests) == 1


def test_tls_answers(wire, certificate):
    server, used = wire(answering(200, b'{"a": 0.10}'), certificate[0]), session()
    used.verify = str(certificate[1])
    assert used.get(server.url).json() == {"a": Decimal("0.10")}


def test_numbers_keep_every_digit(wire):
    text = b'{"a": 0.1234567890123456789, "b": 12345678901234567890, "c": 1e-7, "d": 0.10}'
    answer = session().get(wire(answering(200, text)).url).json()
    assert str(answer["a"]) == "0.1234567890123456789"
    assert answer["b"] == 12345678901234567890
    assert answer["c"] == Decimal("0.0000001")
    assert str(answer["d"]) == "0.10"
    assert not any(isinstance(value, float) for value in answer.values())


@pytest.mark.parametrize(
    "text",
    [b"NaN", b"Infinity", b"-Infinity", b"1e99999999999999999999", b"<html>", b"[" * 100_000,
     b'"\xff"', b"1" * 10_000],
    ids=["nan", "inf", "-inf", "exponent", "html", "deep", "no utf-8", "long"],
)  # fmt: skip
def test_what_is_no_json_is_an_error_that_callers_expect(wire, text):
    answer = session().get(wire(answering(200, text)).url)
    with pytest.raises(FAILURES):
        answer.json()


def test_no_answer_keeps_the_status(wire):
    with pytest.raises(NoAnswer, match="HTTP 302 instead of an answer"):
        session().get(wire(answering(302, b"{}")).url, allow_redirects=False)
