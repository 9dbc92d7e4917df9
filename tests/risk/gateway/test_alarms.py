"""An alarm reaches log and webhook, and a webhook that fails or hangs is nobody else's problem."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from risk.gateway.alarms import QUIET_S, ROOM, Alarm, AlertSettings, alarm, connect, disconnect


@contextmanager
def server(status: int = 200, hangs: threading.Event | None = None) -> Iterator[tuple[str, Any]]:
    """Serve as a chat does, and give its address and what it has heard."""
    heard: list[Any] = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            if hangs is not None:
                hangs.wait(20)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{found.server_port}/secret-path", heard
    finally:
        if hangs is not None:
            hangs.set()
        found.shutdown()
        found.server_close()


def test_an_alarm_is_one_line_of_json_and_one_message(caplog: pytest.LogCaptureFixture) -> None:
    with server() as (url, heard):
        hook = connect(AlertSettings(url, 2.0), "gateway on here")
        with caplog.at_level(logging.INFO):
            alarm(Alarm.tripped, "loss of the day\ntoo large")
        disconnect(hook)
        alarm(Alarm.tripped, "after the end")
    (first, _) = [one for one in caplog.records if one.name == "risk.gateway.alarms"]
    line = first.getMessage()
    assert "\n" not in line and first.levelno == logging.CRITICAL
    assert json.loads(line)["alarm"] == "tripped"
    assert heard == [
        {
            "text": "gateway on here: the latch has tripped: nothing is sent any more: "
            "loss of the day\ntoo large"
        }
    ]


def test_the_same_words_are_not_sent_twice_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    with server() as (url, heard):
        hook = connect(AlertSettings(url, 2.0), "here")
        for detail in ("a", "a", "b", "a"):
            alarm(Alarm.refused, detail)
        monkeypatch.setattr("risk.gateway.alarms.time.monotonic", lambda: now + QUIET_S + 60)
        alarm(Alarm.refused, "a")
        disconnect(hook)
    assert [one["text"][-1] for one in heard] == ["a", "b", "a"]


def test_a_webhook_that_hangs_keeps_nobody_waiting_and_its_queue_is_bounded() -> None:
    hangs = threading.Event()
    with server(hangs=hangs) as (url, heard):
        hook = connect(AlertSettings(url, 10.0), "here")
        began = time.monotonic()
        for number in range(ROOM + 50):
            alarm(Alarm.refused, str(number))
        assert time.monotonic() - began < 2.0
        hangs.set()
        for _ in range(200):
            if len(heard) >= ROOM + 1:
                break
            time.sleep(0.05)
        assert ROOM <= len(heard) <= ROOM + 1
        alarm(Alarm.refused, "the last one")
        disconnect(hook)
    assert any("found no room" in one["text"] for one in heard)


@pytest.mark.parametrize("status", [404, 500, None])
def test_a_webhook_that_fails_is_a_warning_without_its_address(
    status: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    if status is None:
        settings = AlertSettings("http://127.0.0.1:1/secret-path", 1.0)
        hook = connect(settings, "here")
        alarm(Alarm.refused, "x")
        disconnect(hook)
    else:
        with server(status) as (url, _):
            hook = connect(AlertSettings(url, 2.0), "here")
            alarm(Alarm.refused, "x")
            disconnect(hook)
    assert "the webhook of alarms" in caplog.text
    assert "secret-path" not in caplog.text


def test_without_an_address_there_is_no_webhook() -> None:
    assert connect(AlertSettings(None, 1.0), "here") is None
    with pytest.raises(ValueError, match=r"alerts\.url"):
        AlertSettings("file:///etc/passwd", 1.0)
    with pytest.raises(ValueError, match=r"alerts\.timeout_s"):
        AlertSettings(None, 0.0)
