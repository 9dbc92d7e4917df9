"""Callers against a small HTTP server of this test."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from benchmarks.callers import Target, load


class Handler(BaseHTTPRequestHandler):
    """Echoes what it was sent, as the path says, and keeps it."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[int, dict[str, str], bytes]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.client_address[1], dict(self.headers), body))
        if self.path == "/lost":
            self.close_connection = True
            return
        self.send_response(503 if self.path == "/refused" else 200)
        if self.path == "/slow":
            time.sleep(0.1)
        if self.path == "/closing":
            self.send_header("Connection", "close")
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (body[:3], body[3:]):
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    class Fresh(Handler):
        seen: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []

    with ThreadingHTTPServer(("127.0.0.1", 0), Fresh) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def seen(server: ThreadingHTTPServer) -> list[tuple[int, dict[str, str], bytes]]:
    handler = server.RequestHandlerClass
    assert issubclass(handler, Handler)
    return handler.seen


QUESTIONS = [[json.dumps([caller, n]).encode() for n in range(5)] for caller in range(3)]


@pytest.mark.parametrize("path", ["/plain", "/chunked", "/closing"])
def test_every_caller_gets_the_answers_to_its_own_questions(server: ThreadingHTTPServer, path: str):
    found = load(Target(server.server_port, path, "word"), b"first", QUESTIONS)
    assert [[answer.body for answer in given] for given in found.answers] == QUESTIONS
    assert all(answer.status == 200 for given in found.answers for answer in given)


def test_a_caller_stays_on_its_connection_and_shows_its_token(server: ThreadingHTTPServer):
    load(Target(server.server_port, "/plain", "word"), b"first", QUESTIONS)
    assert len({port for port, _, _ in seen(server)}) == 3
    assert {head["Authorization"] for _, head, _ in seen(server)} == {"Bearer word"}
    assert [body for _, _, body in seen(server)].count(b"first") == 3


def test_callers_ask_at_the_same_time(server: ThreadingHTTPServer):
    found = load(Target(server.server_port, "/slow", "word"), b"first", QUESTIONS)
    assert all(answer.seconds >= 0.1 for given in found.answers for answer in given)
    assert 0.5 <= found.seconds < 1.0


def test_a_refusal_and_a_lost_connection_are_answers_too(server: ThreadingHTTPServer):
    refused = load(Target(server.server_port, "/refused", "word"), b"first", QUESTIONS)
    assert {answer.status for given in refused.answers for answer in given} == {503}
    lost = load(Target(server.server_port, "/lost", "word"), b"first", QUESTIONS)
    assert {answer.status for given in lost.answers for answer in given} == {0}


def test_nobody_there_is_no_answer():
    found = load(Target(1, "/plain", "word"), b"first", QUESTIONS)
    assert {answer.status for given in found.answers for answer in given} == {0}
