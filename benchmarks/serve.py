"""The daily allocation over HTTP, beside an empty application in the same Ray Serve.

Both are asked by turns, by the same callers with the same questions, each of which is new: another
account or other positions. Every answer of ours is compared with what the policies say without a
server. A caller sends its next question when it has the answer to the last one.
"""

import asyncio
import http.client
import json
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from benchmarks import callers
from benchmarks.callers import Load, Target
from benchmarks.measure import Result
from risk.access.tokens import make_tokens_file
from serving.allocation import allocation, decision_id
from serving.blueprint import Blueprint
from serving.local import LocalBackend
from serving.messages import canonical, parse, to_question
from serving.questions import Opinion
from serving.run import ENVIRONMENT, QUIET, serving
from training.local_ray import local_ray

QUESTIONS = {1: 200, 4: 100, 64: 10}  # callers -> questions of each in a round
TOLERANCE = 1e-6  # of a weight
COLD_LIMIT_S = 120.0
UNLIMITED = 10**9  # requests a minute: what one token may ask is not what is measured here
HOST = "127.0.0.1"
COLUMNS = ("callers", "p50, ms", "p99, ms", "empty p50, ms", "of empty", "per s", "errors", "wrong")


@dataclass(frozen=True, slots=True)
class Round:
    """Some callers' questions, and how both applications answered them."""

    questions: Sequence[Sequence[bytes]]
    ours: Load
    empty: Load


def run(plan: Blueprint, as_of: str, folder: Path, start: Sequence[str], repeats: int) -> Result:
    """Start the service cold, then load it and the empty application by turns.

    Args:
        plan: what is served.
        as_of: the session that is asked for.
        folder: for decisions and tokens.
        start: overrides of `tercet serve` that name the same market and artefact.
        repeats: rounds at each number of callers, >= 1.

    Raises:
        RuntimeError: if the service does not become ready, or the empty application fails.
    """
    token = make_tokens_file(folder / "tokens")
    cold_start_s = _cold_start(folder, start)
    own = replace(
        plan.serving,
        web=replace(plan.serving.web, requests_per_minute=UNLIMITED),
        decisions=str(folder / "decisions.sqlite"),
        tokens=str(folder / "tokens"),
    )
    plan = replace(plan, serving=own).located()
    rounds = _loaded(plan, as_of, token, repeats)
    opinion = _opinion(plan, as_of)
    found = {count: Figures.of(some, opinion) for count, some in rounds.items()}
    by_callers = {str(count): one for count, one in found.items()}
    return Result(
        "serve",
        {
            "p50_ms": {count: one.p50_ms for count, one in by_callers.items()},
            "p99_ms": {count: one.p99_ms for count, one in by_callers.items()},
            "of_empty_app": {count: one.of_empty_app for count, one in by_callers.items()},
            "of_empty_app_by_round": {count: one.by_round for count, one in by_callers.items()},
            "empty_p50_ms": {count: one.empty_p50_ms for count, one in by_callers.items()},
            "rps": {count: one.rps for count, one in by_callers.items()},
            "errors": {count: one.errors for count, one in by_callers.items()},
            "wrong": {count: one.wrong for count, one in by_callers.items()},
            "answers": {count: one.answers for count, one in by_callers.items()},
            "cold_start_s": cold_start_s,
            "replicas": plan.serving.placement.champion,
        },
        COLUMNS,
        tuple(one.row(count) for count, one in by_callers.items()),
    )


@dataclass(frozen=True, slots=True)
class Figures:
    """What a number of callers met; times in milliseconds."""

    answers: int
    p50_ms: float
    p99_ms: float
    empty_p50_ms: float
    of_empty_app: float
    by_round: list[float]  # the same ratio of each round
    rps: float
    errors: int
    wrong: int

    @classmethod
    def of(cls, rounds: Sequence[Round], opinion: Opinion) -> "Figures":
        """Judge some rounds."""
        ours = [_milliseconds(one.ours) for one in rounds]
        empty = [_milliseconds(one.empty) for one in rounds]
        mine, default = (sorted(ms for some in both for ms in some) for both in (ours, empty))
        answers = [answer for one in rounds for given in one.ours.answers for answer in given]
        p50, empty_p50 = statistics.median(mine), statistics.median(default)
        return cls(
            answers=len(answers),
            p50_ms=round(p50, 2),
            p99_ms=round(mine[min(int(0.99 * len(mine)), len(mine) - 1)], 2),
            empty_p50_ms=round(empty_p50, 2),
            of_empty_app=round(p50 / empty_p50, 3),
            by_round=[
                round(statistics.median(a) / statistics.median(b), 3)
                for a, b in zip(ours, empty, strict=True)
            ],
            rps=round(len(mine) / sum(one.ours.seconds for one in rounds), 1),
            errors=sum(answer.status != http.client.OK for answer in answers),
            wrong=sum(_count_wrong(one, opinion) for one in rounds),
        )

    def row(self, count: str) -> tuple[str, ...]:
        """Return the row of the table."""
        return (
            count,
            f"{self.p50_ms:.1f}",
            f"{self.p99_ms:.1f}",
            f"{self.empty_p50_ms:.1f}",
            f"{self.of_empty_app:.2f}",
            f"{self.rps:.0f}",
            str(self.errors),
            str(self.wrong),
        )


def _milliseconds(load: Load) -> list[float]:
    answered = [answer for given in load.answers for answer in given if answer.status == 200]
    if not answered:
        first = load.answers[0][0]
        raise RuntimeError(f"no question was answered; the first: {first.status} {first.body!r}")
    return [1e3 * answer.seconds for answer in answered]


# -- questions and what is right ------------------------------------------------------------------


def _questions(as_of: str, count: int, each: int, label: str) -> list[list[bytes]]:
    """Return `each` questions of `count` callers; no two of a benchmark are alike."""
    return [
        [_question(as_of, f"{label}-{caller}", index) for index in range(each)]
        for caller in range(count)
    ]


def _question(as_of: str, account: str, index: int) -> bytes:
    positions = {"AAPL": f"{10 + index}.25", "MSFT": str(index), "XOM": f"{0.5 * index}"}
    held = {"id": account, "cash": f"{10_000 + index}.50", "positions": positions}
    return json.dumps({"as_of": as_of, "account": held}).encode()


def _opinion(plan: Blueprint, as_of: str) -> Opinion:
    """Return what the policies say without a server; it does not depend on the account."""
    market = plan.market
    local = LocalBackend(
        plan.sources(), plan.serving.desk, plan.env, market.exchange, market.cash_rate
    )
    return asyncio.run(local.opinion(to_question(parse(_question(as_of, "local", 0)))))


def _count_wrong(one: Round, opinion: Opinion) -> int:
    """Return how many answers differ, or do not supersede the caller's answer before."""
    wrong = 0
    for bodies, given in zip(one.questions, one.ours.answers, strict=True):
        before = None
        for body, answer in zip(bodies, given, strict=True):
            if answer.status != http.client.OK:
                continue
            said = json.loads(answer.body)
            wrong += not (_is_right(body, said, opinion) and said["supersedes"] == before)
            before = said["decision_id"]
    return wrong


def _is_right(body: bytes, said: dict[str, object], opinion: Opinion) -> bool:
    """Compare an answer with the opinion, weights to TOLERANCE and the rest to the letter."""
    request = parse(body)
    account = None if request.account is None else request.account.id
    identity = decision_id(account, opinion.as_of, opinion.model["sha256"], canonical(request))
    right = allocation(identity, opinion)
    for changing in ("supersedes", "diagnostics"):
        said, right = (
            {k: v for k, v in record.items() if k != changing} for record in (said, right)
        )
    return _alike(said, right)


def _alike(left: object, right: object) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_alike(left[k], right[k]) for k in left)
    if isinstance(left, float) and isinstance(right, float):
        return abs(left - right) <= TOLERANCE
    return left == right


# -- the service under load -----------------------------------------------------------------------


def _loaded(plan: Blueprint, as_of: str, token: str, repeats: int) -> dict[int, list[Round]]:
    """Serve both applications, and return the rounds by number of callers."""
    port = _free_port()
    spawned = get_context("spawn")
    with (
        local_ray(environment=ENVIRONMENT),
        serving(plan, HOST, port),
        ProcessPoolExecutor(1, mp_context=spawned) as others,
    ):
        _run_empty_app(plan)
        _await_ready(port, COLD_LIMIT_S)
        targets = [Target(port, path, token) for path in ("/v1/allocations", "/empty")]

        def both(count: int, each: int, label: str) -> Round:
            questions = _questions(as_of, count, each, label)
            first = _question(as_of, f"{label}-warmup", 0)
            ours, empty = (
                others.submit(callers.load, target, first, questions).result() for target in targets
            )
            return Round(questions, ours, empty)

        for count, each in QUESTIONS.items():
            both(count, each, f"warmup-{count}")
        return {
            count: [both(count, each, f"{count}-{index}") for index in range(repeats)]
            for count, each in QUESTIONS.items()
        }


def _run_empty_app(plan: Blueprint) -> None:
    """Run the empty application with as many replicas as ours, beside it."""
    from ray import serve

    from benchmarks.empty_app import build

    placement = plan.serving.placement
    serve.run(
        build(placement.ingress, placement.champion, placement.cpus),
        name="empty",
        route_prefix="/empty",
        logging_config=QUIET,
    )


def _cold_start(folder: Path, start: Sequence[str]) -> float:
    """Return the seconds from a new process of `tercet serve` until it is ready; stop it."""
    port = _free_port()
    files = (f"serving.decisions={folder / 'cold.sqlite'}", f"serving.tokens={folder / 'tokens'}")
    command = [sys.executable, "-m", "cli", "serve", *start, *files, f"port={port}"]
    with (folder / "cold.log").open("w+b") as log:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _await_ready(port, COLD_LIMIT_S, process)
            return round(time.perf_counter() - began, 2)
        except RuntimeError as error:
            log.seek(0)
            words = log.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"tercet serve: {error}\n{words}") from error
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()


def _await_ready(port: int, limit_s: float, process: subprocess.Popen[bytes] | None = None) -> None:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}")
        connection = http.client.HTTPConnection(HOST, port, timeout=5.0)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.client.OK:
                return
        connection.close()
        time.sleep(0.05)
    raise RuntimeError(f"it was not ready after {limit_s:.0f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port
