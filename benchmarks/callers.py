"""Callers of an HTTP service: each asks, waits for the answer, and asks again on its connection.

Only the standard library, in a process of its own: what is measured is the service, and not a
client that competes with it for its interpreter.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

ANSWER_S = 60.0  # after which a question counts as lost


@dataclass(frozen=True, slots=True)
class Target:
    """Where questions are sent.

    Args:
        port: of this machine.
        path: of the route.
        token: of the caller.
    """

    port: int
    path: str
    token: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one question.

    Args:
        seconds: from the first byte sent to the last one received.
        status: of HTTP; 0 where the connection failed.
        body: as it came.
    """

    seconds: float
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Load:
    """What one round of callers met.

    Args:
        seconds: from the first question to the last answer.
        answers: by caller, in the order of its questions.
    """

    seconds: float
    answers: tuple[tuple[Answer, ...], ...]


def load(target: Target, warmup: bytes, questions: Sequence[Sequence[bytes]]) -> Load:
    """Let every caller ask its questions, all callers at once.

    Args:
        target: who is asked.
        warmup: a body that each caller sends first, untimed: it opens the connection.
        questions: by caller, the bodies that it sends one after the other.
    """
    return asyncio.run(_load(target, warmup, questions))


async def _load(target: Target, warmup: bytes, questions: Sequence[Sequence[bytes]]) -> Load:
    callers = [_Caller(target) for _ in questions]
    await asyncio.gather(*(caller.ask(warmup) for caller in callers))
    started = time.perf_counter()
    answers = await asyncio.gather(
        *(caller.ask_all(bodies) for caller, bodies in zip(callers, questions, strict=True))
    )
    seconds = time.perf_counter() - started
    for caller in callers:
        caller.close()
    return Load(seconds, tuple(answers))


class _Caller:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._head = (
            f"POST {target.path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n"
            f"Authorization: Bearer {target.token}\r\nContent-Type: application/json\r\n"
        )
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask_all(self, bodies: Sequence[bytes]) -> tuple[Answer, ...]:
        return tuple([await self.ask(body) for body in bodies])

    async def ask(self, body: bytes) -> Answer:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_S):
                status, answer = await self._exchange(body)
        except (OSError, EOFError, ValueError) as error:  # TimeoutError is an OSError
            status, answer = 0, repr(error).encode()
            self.close()
        return Answer(time.perf_counter() - started, status, answer)

    async def _exchange(self, body: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = await asyncio.open_connection("127.0.0.1", self._target.port)
        reader, writer = self._connection
        writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:] if line)
        if fields.get("transfer-encoding") == "chunked":
            answer = await _chunks(reader)
        else:
            answer = await reader.readexactly(int(fields["content-length"]))
        if fields.get("connection") == "close":
            self.close()
        return int(head[0].split()[1]), answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while True:
        size = int(await reader.readline(), 16)
        part = await reader.readexactly(size + 2)
        if size == 0:
            return b"".join(parts)
        parts.append(part[:-2])
