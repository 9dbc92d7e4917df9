"""Anything that can happen, in any order, and what must hold all the while.

Hypothesis draws what people, the market, the broker and the machine do to a real engine with a
real ledger and the official client over a real exchange. `benchmarks.machine.watch` holds every
order against the exchange's own books at the moment in which it is sent, looks at everything
between two rules, and compares both books at the end, when all faults have ended.
"""

import logging
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import make_url

from benchmarks.machine.books import Books, PostgresBooks, SQLiteBooks, in_memory
from benchmarks.machine.desk import Desk
from benchmarks.machine.market import BARS, Market
from benchmarks.machine.scene import Scene, Trouble
from benchmarks.machine.watch import Watch
from brokers.exchange.faults import FaultKind
from risk.gateway.limits import RULES, GatewayLimits
from risk.gateway.records import TERMINAL, Decision, OrderState
from risk.gateway.sending import ALIVE
from risk.gateway.stored import DecisionState
from risk.gateway.submission import Answer, Mode
from risk.gateway.writer import Conflict

FIRST_SEED = 20_260_101


class Size(NamedTuple):
    """How much is tried: in each process so many portions, each of a seed, of so many runs."""

    processes: int
    portions: int
    runs: int
    steps: int


DEFAULT = {"sqlite": Size(1, 1, 500, 5), "postgresql": Size(1, 1, 50, 5)}
SOAK = {"sqlite": Size(2, 20, 250, 50), "postgresql": Size(2, 5, 50, 50)}
ALWAYS = ("orders sent",)  # a few short runs may draw nothing else
IN_MANY_RUNS = (
    *ALWAYS,
    "killed in recovery",
    "limits tightened",
    "strangers' orders",
    "ids taken",
    "orders ended by the broker",
    "books accepted",
    *(f"ended {state.value}" for state in sorted(TERMINAL, key=str)),
    *(f"fault {kind.value}" for kind in FaultKind if kind is not FaultKind.slow),
)
"""What must have happened, or nothing was tried."""
SYMBOLS = BARS.symbols
STARTS = (
    date(2023, 3, 9),  # two sessions before the clocks go forward
    date(2023, 6, 1),
    date(2023, 7, 3),  # a half day before a holiday
    date(2023, 11, 3),  # the last session before the clocks go back
    date(2023, 11, 22),  # before a holiday and a half day
)

symbols = st.sampled_from(SYMBOLS)
books = st.dictionaries(
    symbols,
    st.sampled_from([Decimal(w) for w in ("0.02", "0.05", "0.08", "0.1", "0.15", "0.2", "0.24")]),
    max_size=4,
)
lost = st.one_of(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(("reset", "silence", "html", "empty")),
            "after": st.booleans(),
        }
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("status"),
            "status": st.sampled_from((500, 502, 503, 504)),
            "after": st.booleans(),
        }
    ),
    st.fixed_dictionaries({"kind": st.sampled_from(("truncated", "unknown_enum"))}),
    st.just({"kind": "hide", "seconds": 3600.0}),
    st.just({"kind": "status", "status": 429, "retry_after": 1.0}),
    st.just({"kind": "status", "status": 401, "message": "unauthorized."}),
    st.just({"kind": "status", "status": 403, "message": "insufficient buying power"}),
    st.just({"kind": "status", "status": 422, "message": "client_order_id must be unique"}),
)
READS = ("/v2/account", "/v2/positions", "/v2/orders", "/v2/clock", "/v2/account/activities.*",
         "/v2/assets/.*", "/v2/stocks/.*", "/v2/orders:by_client_order_id")  # fmt: skip
TOLD: tuple[dict[str, Any], ...] = (
    {}, {"absent": True}, {"frozen": True},
    {"factor": "100"}, {"factor": "0.01"}, {"factor": "0.85"}, {"factor": "1.15"},
)  # fmt: skip
ASKED = {
    "lose_answers_to_orders": {
        "fault": lost,
        "nth": st.integers(1, 3),
        "times": st.sampled_from((1, 1, 2, None)),
    },
    "lose_other_answers": {
        "fault": lost,
        "path": st.sampled_from(READS),
        "nth": st.integers(1, 8),
        "times": st.sampled_from((1, 9)),
    },
    "die_soon": {"acts": st.lists(st.integers(1, 60), min_size=1, max_size=3)},
    "kill": {"how": st.sampled_from(("gateway", "latch", "broker"))},
    "halt": {},
    "lose_permit": {"how": st.sampled_from(("revoked", "not renewed"))},
    "restart": {},
    "set_own_clock": {
        "seconds": st.sampled_from((0.0, 0.0, 0.2, -0.9, 2.0, -2.0, 3_600.0, -3_600.0))
    },
    "stranger_orders": {
        "symbol": symbols,
        "side": st.sampled_from(("buy", "sell")),
        "shares": st.sampled_from(("1", "40", "0.5")),
        "limit": st.sampled_from((None, "1", "20", "1000")),
    },
    "stranger_takes_an_id": {"which": st.integers(0, 100), "same": st.booleans()},
    "broker_ends_an_order": {"which": st.integers(0, 100), "reject": st.booleans()},
    "change_terms": {
        "share": st.sampled_from(("1", "0.5", "0.2", "0")),
        "slip": st.sampled_from(("0", "15")),
    },
    "halt_name": {"symbol": symbols, "halted": st.booleans()},
    "tell_prices": {"symbol": symbols, "told": st.sampled_from(TOLD)},
    "change_account": {
        "how": st.sampled_from(("split", "reverse split", "dividend", "cash", "shares")),
        "symbol": symbols,
    },
    "change_limit": {
        "name": st.sampled_from(sorted(RULES)),
        "factor": st.sampled_from(("0.5", "0.9", "1.1", "2")),
    },
    "mend": {},
    "wait": {"seconds": st.sampled_from((0.5, 5, 61, 910, 3_000))},
}
"""What can happen at any time: the method that lets it, and what its arguments are drawn from."""
OFTEN = ("lose_answers_to_orders", "die_soon", "lose_answers_to_orders", "die_soon")
trouble = st.one_of(
    *(st.tuples(st.just(name), st.fixed_dictionaries(ASKED[name])) for name in (*ASKED, *OFTEN))
)
troubles = st.lists(trouble, max_size=2)

FINE = {"S000": Decimal("0.05")}
BAD: dict[str, dict[str, Any]] = {
    "account": {"account": "PA-NOT-OURS"},
    "name": {"weights": {"TSLA": Decimal("0.05")}},
    "nan": {"weights": {"S000": Decimal("NaN")}},
    "sum": {"weights": dict.fromkeys(SYMBOLS, Decimal("0.2"))},
    "large": {"weights": {"S000": Decimal("0.3")}},
    "negative": {"weights": {"S000": Decimal("-0.01")}},
    "model": {"model_sha256": "b" * 64},
    "one": {"agents": 1},
    "stale": {},
    "late": {},
}


class GatewayMachine(RuleBasedStateMachine):
    """A person, a market, a broker and a machine against one gateway."""

    desk: ClassVar[Desk]
    watch: ClassVar[Watch]

    @initialize(
        start=st.sampled_from(STARTS),
        share=st.sampled_from(("1", "1", "0.4", "0")),
        book=books,
        first=trouble,
        second=trouble,
    )
    def begin(
        self, start: date, share: str, book: dict[str, Decimal], first: Trouble, second: Trouble
    ) -> None:
        """Begin on some day with a decision, and let something happen before it and after it."""
        self.scene, self.market = Scene(self.desk, self.watch, start), self.desk.market
        self.scene.change_terms(share, "0")
        self.decisions: list[tuple[Decision, Mode]] = []
        self.numbers = 0
        self.scene.happen(first)
        self._submit(self._decision(book), Mode.paper)
        self.scene.happen(second)
        self.scene.work(61)

    @rule(trouble=trouble)
    def happen(self, trouble: Trouble) -> None:
        """Let something happen."""
        self.scene.happen(trouble)

    @rule(first=trouble, second=trouble)
    def much_happens(self, first: Trouble, second: Trouble) -> None:
        """Let two things happen at once."""
        self.scene.happen(first)
        self.scene.happen(second)

    @rule(book=books, planned=troubles)
    def trade(self, book: dict[str, Decimal], planned: list[Trouble]) -> None:
        """Let a session be open and the latch armed, hand in a decision, and let things happen."""
        self.scene.make_ready()
        self._submit(self._decision(book), Mode.paper)
        for one in planned:
            self.scene.happen(one)

    @rule(seconds=st.sampled_from((1, 61, 301, 910)))
    def work(self, seconds: int) -> None:
        """Let the gateway look once and time pass, as they do all day."""
        self.scene.work(seconds)

    # Each is drawn as rarely as any other: what matters most stands here under more names.
    trade_once_more = trade
    work_on = work_longer = work_much_longer = work
    happen_too = happen

    # What is asked for.

    @rule(book=books, dry=st.sampled_from((False, False, False, True)))
    def decide(self, book: dict[str, Decimal], dry: bool) -> None:
        """Hand in a decision of the last close."""
        self._submit(self._decision(book), Mode.dry_run if dry else Mode.paper)

    @rule(fault=st.sampled_from(sorted(BAD)))
    def decide_badly(self, fault: str) -> None:
        """Hand in a decision that nobody may follow."""
        self.numbers += 1
        now, weights = self.market.now, dict(BAD[fault].get("weights", FINE))
        details = {name: it for name, it in BAD[fault].items() if name != "weights"}
        if fault == "late":
            details["expires_at"] = now - timedelta(hours=1)
        if fault == "stale":
            details["as_of"] = (now - timedelta(days=40)).date()
        try:
            answer = self._submit(self.desk.decision(self.numbers, weights, **details), Mode.paper)
        except ValueError:
            assert fault == "nan", "what no JSON can hold is not even recorded"
            self.decisions.pop()
            return
        assert answer is None or answer.state is DecisionState.refused, f"{fault}: {answer}"

    @precondition(lambda self: self.decisions)
    @rule(which=st.integers(0, 100), other=st.sampled_from(("", "", "body", "mode")))
    def decide_again(self, which: int, other: str) -> None:
        """Hand in a decision once more, or another one under its id."""
        decision, mode = self.decisions[which % len(self.decisions)]
        known = self.desk.outside.decision(decision.id)
        if known is None:  # it was lost with the process before it was durable
            return
        if other == "mode":
            mode = Mode.dry_run if mode is Mode.paper else Mode.paper
        if other == "body":
            decision = replace(decision, body_sha256="f" * 64)
        try:
            answer = self.desk.survive(lambda: self.desk.gateway.submit(decision, mode))
        except Conflict:
            assert other, "the same decision conflicts with itself"
            return
        assert answer is None or not other, f"another {other} under a known id was taken"
        assert answer is None or answer.state is known.state

    # What the gateway does by itself, and what time does.

    @rule()
    def step(self) -> None:
        """Let the gateway look once, with whatever permit is left."""
        self.desk.survive(self.desk.gateway.step)

    @rule()
    def reconcile(self) -> None:
        """Compare ledger and broker: where they differ it is said."""
        found = self.desk.survive(self.desk.gateway.reconcile)
        if found is None or not found.known:
            return
        ours, theirs = self.desk.outside.positions(), self.market.held()
        different = {n for n in {*ours, *theirs} if ours.get(n, 0) != theirs.get(n, 0)}
        assert set(found.drifted) == different, f"{found.drifted} but {ours} and {theirs}"

    @rule()
    def wait_for_close(self) -> None:
        """Let the session end."""
        self.market.to_close()

    @rule(sessions=st.sampled_from((1, 1, 1, 2)))
    def wait_for_sessions(self, sessions: int) -> None:
        """Let nights, weekends and holidays pass, with a change of the clocks in some."""
        for _ in range(sessions):
            self.market.to_next_session()

    # What people do to go on.

    @rule()
    def supervise(self) -> None:
        """Let the supervisor look, which renews the permit or does not."""
        self.desk.supervisor.step()

    @rule(typed=st.sampled_from(("", "", "", "PA-NOT-OURS")))
    def arm(self, typed: str) -> None:
        """Arm, without having looked around."""
        self.scene.arm(typed or self.desk.account)

    @rule()
    def look_after(self) -> None:
        """Let a person clean up, accept what there is, and arm."""
        self.scene.look_after()

    # What must hold.

    @invariant()
    def everything_holds(self) -> None:
        """Find nothing wrong between two rules."""
        if "scene" in vars(self):
            self.watch.between()

    def teardown(self) -> None:
        """Let the faults end and the day pass; then every order has its end, and books agree."""
        if "scene" not in vars(self):
            return
        try:
            if sys.exc_info()[0] is None:
                self._finish()
        finally:
            self.scene.count_faults()
            self.desk.end()

    def _finish(self) -> None:
        """End the day: broker, clocks and feeds are well again, and its orders are over."""
        self.scene.clean_up(cancel=False)
        self.desk.fuse.put_out()
        self.market.to_close()
        self.market.advance(1_000)
        for _ in range(4):
            self.desk.gateway.step()
            if not (self.desk.ledger.accepted() or self.desk.ledger.orders(states=ALIVE)):
                break
        self.scene.accept()
        self.watch.ended()
        self.desk.counts["runs"] += 1

    def _decision(self, book: dict[str, Decimal]) -> Decision:
        self.numbers += 1
        return self.desk.decision(self.numbers, book)

    def _submit(self, decision: Decision, mode: Mode) -> Answer | None:
        self.decisions.append((decision, mode))
        answer = self.desk.survive(lambda: self.desk.gateway.submit(decision, mode))
        if answer is not None:
            self.desk.counts[f"decisions {answer.state.value}"] += 1
            for reason in answer.reasons:
                self.desk.counts[f"reason {reason}"] += 1
            kept = self.desk.outside.orders(decision_id=decision.id)
            assert all(one.state is OrderState.intent for one in kept)
            sending = answer.state is not DecisionState.refused and mode is Mode.paper
            assert sending or not kept, f"{answer} left {kept}"
        return answer


def run(
    books: Books, folder: Path, limits: GatewayLimits, runs: int, steps: int, first: int
) -> Counter[str]:
    """Let the machine run, and return what happened; the seed is `first`."""
    market = Market(folder)
    desk = Desk(market, books, limits, folder)

    class Machine(GatewayMachine):
        pass

    Machine.desk, Machine.watch = desk, Watch(desk)
    logging.disable(logging.CRITICAL)  # a day of alarms in every run
    try:
        run_state_machine_as_test(
            seed(first)(Machine),
            settings=settings(
                max_examples=runs,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        logging.disable(logging.NOTSET)
        market.close()
    return desk.counts


def shared_out(
    size: Size,
    make: Callable[[int], AbstractContextManager[tuple[Books, Path]]],
    limits: GatewayLimits,
) -> Counter[str]:
    """Let machines run in processes of their own, each with its seed, and add up what happened."""
    context = multiprocessing.get_context("fork")  # what is imported is there at once
    left: list[Connection] = []
    for number in range(size.processes):
        heard, told = context.Pipe(duplex=False)
        left += [heard] * size.portions
        share = (told, size, make, limits, number)
        context.Process(target=_one_share, args=share, daemon=True).start()
        told.close()
    total: Counter[str] = Counter()
    while left:
        ready, *_ = wait(set(left))
        assert isinstance(ready, Connection)
        answer = ready.recv()
        assert isinstance(answer, Counter), answer
        total += answer
        left.remove(ready)
        print(f"{total['runs']} runs, {total['CPU seconds']} CPU seconds", flush=True)
    return total


def _one_share(
    told: Connection,
    size: Size,
    make: Callable[[int], AbstractContextManager[tuple[Books, Path]]],
    limits: GatewayLimits,
    number: int,
) -> None:
    seeds = range(FIRST_SEED + number * size.portions, FIRST_SEED + (number + 1) * size.portions)
    first = seeds[0]
    try:
        for first in seeds:
            began = time.process_time()
            with make(number) as (books, folder):
                counts = run(books, folder, limits, size.runs, size.steps, first)
            counts["CPU seconds"] = round(time.process_time() - began)
            told.send(counts)
    except BaseException:  # noqa: BLE001 the parent shows it
        told.send(f"seed {first}\n{traceback.format_exc()}")


@pytest.mark.timeout(7200)
def test_nothing_that_happens_to_a_gateway_breaks_what_must_hold(
    limits: GatewayLimits, tmp_path: Path, soak: bool
) -> None:
    @contextmanager
    def make(number: int) -> Iterator[tuple[Books, Path]]:
        with in_memory(tmp_path) as folder:
            yield SQLiteBooks(folder), folder

    size = (SOAK if soak else DEFAULT)["sqlite"]
    _require(shared_out(size, make, limits), size, IN_MANY_RUNS if soak else ALWAYS)


@pytest.mark.timeout(7200)
def test_nothing_that_happens_to_a_gateway_on_postgresql_breaks_what_must_hold(
    limits: GatewayLimits, tmp_path: Path, postgres: str, soak: bool
) -> None:
    @contextmanager
    def make(number: int) -> Iterator[tuple[Books, Path]]:
        with in_memory(tmp_path) as folder, database(postgres, f"machine_{number}") as url:
            books = PostgresBooks(url)
            yield books, folder
            books.close()

    size = (SOAK if soak else DEFAULT)["postgresql"]
    _require(shared_out(size, make, limits), size, IN_MANY_RUNS if soak else ALWAYS)


@contextmanager
def database(server: str, name: str) -> Iterator[str]:
    """Give the address of a new database of a server."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
    url = make_url(server).set(database=name)
    yield url.render_as_string(hide_password=False)


def _require(counts: Counter[str], size: Size, happened: Sequence[str]) -> None:
    """Show what was tried; a machine to which nothing happened has shown nothing."""
    last = FIRST_SEED + size.processes * size.portions - 1
    print(
        f"{counts['runs']} runs of {size.steps} steps, seeds {FIRST_SEED} to {last}: 0 violations"
    )
    for name, count in sorted(counts.items()):
        print(f"  {name}: {count}")
    assert counts["runs"] >= size.processes * size.portions * size.runs
    missing = [name for name in happened if not counts[name]]
    assert not missing, f"never happened: {missing}"
