"""Everything that the gateway depends on is taken away in turn: nothing is sent any more.

Engine, ledger and exchange are real, and the official client is between them. Two orders are
durable when something goes; they stay where they are, and a decision that comes in then gets no
order. The reasons are compared too, so that no case is refused for another's reason.
"""

import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.machine.market import BARS, CALENDAR, Market
from risk.gateway.audit import FileAnchor
from risk.gateway.broker import BrokerError
from risk.gateway.engine import Gateway
from risk.gateway.execution import ExecutionSettings, Schedule
from risk.gateway.latch import arm_paper
from risk.gateway.ledger import Ledger
from risk.gateway.limits import GatewayLimits
from risk.gateway.market_facts import BarsSource
from risk.gateway.observer import Memory, Observer, Permissions
from risk.gateway.permit import HaltFile, LedgerPermit, PermitFailed
from risk.gateway.records import Decision, OrderState
from risk.gateway.storage import LedgerFailed
from risk.gateway.stored import DecisionState
from risk.gateway.submission import Answer, Mode

SESSION = date(2023, 6, 1)
ONE, TWO = BARS.symbols[:2]
MODEL = "a" * 64
NAMES = Permissions(frozenset(BARS.symbols), frozenset(), frozenset({MODEL}))
SOURCE = BarsSource(lambda: BARS, lambda: "1", CALENDAR, 1e9, 0.99)
EXECUTION = ExecutionSettings(
    limit_offset="0.002", drift_band="0.002", min_notional="10", slice_adv="0.005",
    slice_interval_s=300, schedule=Schedule.twap, max_trades_day=20, headroom="0.001",
)  # fmt: skip
Patch = pytest.MonkeyPatch


class Desk:
    """A real gateway at a real exchange, on a ledger of its own.

    Args:
        market: of it.
        folder: with `empty.sqlite`, a ledger that was migrated.
        limits: in force.
    """

    def __init__(self, market: Market, folder: Path, limits: GatewayLimits) -> None:
        self.market, self.skew = market, timedelta(0)
        self.file, self.anchor = folder / "ledger.sqlite", folder / "anchor"
        shutil.copyfile(folder.parent / "empty.sqlite", self.file)
        self.ledger, self.outside = self._opened(), self._opened()
        self.epoch = self.ledger.acquire("for tests")
        self.permit, self.halt_file = LedgerPermit(self.ledger), HaltFile(folder / "HALT")
        broker = market.broker(lambda *_: None, lambda *_: None)
        observer = Observer(
            broker, self.ledger, self.epoch, SOURCE, self.permit, self.halt_file, NAMES, Memory(),
            self.clock, self.clock,
        )  # fmt: skip
        self.gateway = Gateway(
            broker, self.ledger, self.epoch, observer, limits, EXECUTION, self.clock
        )
        self.gateway.recover()
        arm_paper(self.ledger, self.epoch, broker.account(), self.clock())
        self.renew()
        self._account = broker.account().id

    def _opened(self) -> Ledger:
        return Ledger(f"sqlite:///{self.file}", FileAnchor(self.anchor))

    def close(self) -> None:
        self.ledger.close()
        self.outside.close()

    def clock(self) -> datetime:
        return self.market.now + self.skew

    def renew(self) -> None:
        LedgerPermit(self.outside).renew(self.epoch, 30_000)

    def decision(self, number: int, weights: dict[str, Decimal]) -> Decision:
        previous, hours = SOURCE.previous(self.market.now), SOURCE.hours(self.market.now)
        assert previous is not None and hours is not None
        half = Decimal("0.5")
        agents = {"one": (half, weights), "two": (half, weights)}
        return Decision(
            f"{number:064x}", self._account, previous[0], hours.close, MODEL, weights, agents,
            f"{number + 1000:064x}",
        )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder in memory, where there is one: what is proven here is no disk's patience."""
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() else tmp_path_factory.getbasetemp()
    with tempfile.TemporaryDirectory(dir=parent) as name:
        found = Path(name)
        ledger = Ledger(f"sqlite:///{found}/empty.sqlite", FileAnchor(found / "anchor"))
        ledger.migrate()
        ledger.close()
        yield found


@pytest.fixture(scope="module")
def market(folder: Path) -> Iterator[Market]:
    found = Market(folder)
    yield found
    found.close()


@pytest.fixture
def desk(market: Market, folder: Path, limits: GatewayLimits) -> Iterator[Desk]:
    """Give an armed account half an hour after the opening."""
    market.begin(SESSION)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        found = Desk(market, Path(own), limits)
        yield found
        found.close()


def wanted(desk: Desk, number: int) -> Decision:
    return desk.decision(number, {ONE: Decimal("0.08"), TWO: Decimal("0.05")})


def decide(desk: Desk, number: int) -> Answer:
    return desk.gateway.submit(wanted(desk, number), Mode.paper)


def sent(desk: Desk) -> int:
    return sum((one.method, one.path) == ("POST", "/v2/orders") for one in desk.market.plan.sent)


def work(desk: Desk, renewing: bool = True) -> None:
    """Let the gateway work for a minute, whatever it stumbles over."""
    for _ in range(3):
        desk.market.advance(20)
        with suppress(BrokerError, LedgerFailed, PermitFailed):
            if renewing:
                desk.renew()
            desk.gateway.step()


def outcome(desk: Desk, decision: Decision) -> set[str]:
    """Return why a decision gets no order: its reasons, those of its names, or what was raised."""
    try:
        answer = desk.gateway.submit(decision, Mode.paper)
    except (BrokerError, LedgerFailed) as error:
        return {type(error).__name__}
    assert answer.orders == ()
    return set(answer.reasons) | {one.reason for one in answer.carried}


def broken(path: str, **fault: Any) -> Callable[[Desk, Patch], None]:
    """Let the broker fail whenever it is asked for this."""

    def remove(desk: Desk, _: Patch) -> None:
        wanted = {"kind": "status", "status": 500, "method": "GET", "times": None} | fault
        desk.market.fault(path=path, **wanted)

    return remove


def source(name: str, answer: Any) -> Callable[[Desk, Patch], None]:
    """Let the market source know nothing of this."""
    return lambda _, patch: patch.setattr(BarsSource, name, lambda *_: answer)


def fact(**values: Any) -> Callable[[Desk, Patch], None]:
    """Let the market source know everything of the names but this."""

    def remove(_: Desk, patch: Patch) -> None:
        known = BarsSource.facts

        def less(self: BarsSource, *asked: Any) -> Any:
            return {name: replace(one, **values) for name, one in known(self, *asked).items()}

        patch.setattr(BarsSource, "facts", less)

    return remove


def told(**what: Any) -> Callable[[Desk, Patch], None]:
    """Let the broker tell other prices of both names."""

    def remove(desk: Desk, _: Patch) -> None:
        for symbol in (ONE, TWO):
            desk.market.tell(symbol, **what)

    return remove


def frozen(desk: Desk, _: Patch) -> None:
    told(frozen_at=desk.market.now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))(desk, _)


def halted_names(desk: Desk, _: Patch) -> None:
    for symbol in (ONE, TWO):
        desk.market.flag(symbol, tradable=False)


def other_epoch(desk: Desk, _: Patch) -> None:
    with desk.outside.writing(desk.epoch) as writer:
        row = writer.permit()
        assert row is not None
        writer.set_permit(replace(row, epoch=desk.epoch + 1))


def moved_ledger(desk: Desk, _: Patch) -> None:
    away = desk.file.rename(desk.file.with_suffix(".away"))
    shutil.copyfile(away, desk.file)


def lost_anchor(desk: Desk, _: Patch) -> None:
    desk.anchor.rename(desk.anchor.with_suffix(".away"))
    desk.anchor.mkdir()


def skewed(desk: Desk, _: Patch) -> None:
    desk.skew = timedelta(seconds=2)


def stranger(desk: Desk, _: Patch) -> None:
    wanted = {"symbol": "S003", "qty": "1", "side": "buy", "type": "limit", "limit_price": "1"}
    assert desk.market.stranger(wanted, "a stranger's")


@dataclass(frozen=True)
class Removal:
    """One thing that is taken away.

    Args:
        name: of it.
        remove: takes it away.
        reasons: all that are given; more would hide a check that does not see it.
        renewing: the permit is renewed all the same.
        waiting_s: for so long what was known before is good enough.
    """

    name: str
    remove: Callable[[Desk, Patch], None]
    reasons: frozenset[str]
    renewing: bool = True
    waiting_s: int = 0


def removal(
    name: str, remove: Callable[[Desk, Patch], None], reasons: str, **details: Any
) -> Removal:
    return Removal(name, remove, frozenset(reasons.split()), **details)


NOTHING_KNOWN = (
    "account_mismatch blocked clock_alert clock_missing clock_skew reconcile_stale "
    "snapshot_implausible snapshot_stale state_missing suspended"
)


REMOVALS = (
    removal("permit", lambda d, _: d.permit.revoke(), "permit", renewing=False),
    removal("permit of this epoch", other_epoch, "permit", renewing=False),
    removal("latch", lambda d, _: d.outside.trip("for tests", "person", d.clock()), "latch"),
    removal("leave by the HALT file", lambda d, _: d.halt_file.halt("for tests"), "halt_file"),
    removal("ledger's file", moved_ledger, "LedgerFailed"),
    removal("anchor", lost_anchor, "LedgerFailed"),
    removal(
        "account",
        broken("/v2/account"),
        "account_mismatch blocked reconcile_stale snapshot_implausible snapshot_stale "
        "state_missing suspended",
    ),
    removal("broker's clock", broken("/v2/clock"), "clock_alert clock_missing clock_skew"),
    removal(
        "positions", broken("/v2/positions"), "reconcile_stale snapshot_implausible state_missing"
    ),
    removal("open orders", broken("/v2/orders"), "reconcile_stale state_missing"),
    removal("executions", broken("/v2/account/activities.*"), "reconcile_stale", waiting_s=31),
    removal("quotes", broken("/v2/stocks/.*"), "quote_missing"),
    removal("assets", broken("/v2/assets/.*"), "not_tradable"),
    removal("the whole broker", broken(".*", method=None), NOTHING_KNOWN),
    removal("silence", broken(".*", method=None, kind="silence"), NOTHING_KNOWN),
    removal("keys", broken(".*", method=None, status=401), NOTHING_KNOWN),
    removal("empty answers", broken(".*", kind="empty"), NOTHING_KNOWN),
    removal("half answers", broken(".*", kind="truncated"), NOTHING_KNOWN),
    removal("pages of HTML", broken(".*", kind="html"), NOTHING_KNOWN),
    removal("hours", source("hours", None), "market_closed session_ended"),
    removal("last session", source("previous", None), "decision_stale"),
    removal("facts", source("facts", {}), "quote_jump"),
    removal("second prices", source("quotes", {}), "second_source"),
    removal("close", fact(close=None), "quote_jump"),
    removal("session of the close", fact(close_session=None), "second_source"),
    removal("an older close", fact(close_session=date(2023, 5, 30)), "second_source"),
    removal("volume", fact(adv=None), "max_day_adv"),
    removal("deviation", fact(sigma=None), "max_collar"),
    removal("sector", fact(sector=None), "sector_missing"),
    removal("broker's prices", told(absent=True), "quote_missing"),
    removal("a moving feed", frozen, "quote_stale", waiting_s=61),
    removal("prices of the right size", told(factor="100"), "quote_jump"),
    removal("prices of the right size, below", told(factor="0.01"), "quote_jump"),
    removal("trading in the names", halted_names, "not_tradable"),
    removal("right clock", skewed, "clock_alert clock_skew latch"),
    removal("books without strangers", stranger, "latch"),
    removal(
        "open market",
        lambda d, _: d.market.to_close(),
        "calendar_disagrees closing_buffer decision_expired decision_stale market_closed",
    ),
)


def test_with_everything_in_its_place_orders_are_sent(desk: Desk) -> None:
    assert decide(desk, 1).state is DecisionState.accepted
    work(desk)
    assert sent(desk) == 2


@pytest.mark.parametrize("gone", REMOVALS, ids=lambda gone: gone.name)
def test_without_it_nothing_is_sent_and_nothing_accepted(
    desk: Desk, gone: Removal, monkeypatch: Patch
) -> None:
    assert len(decide(desk, 1).orders) == 2
    second = wanted(desk, 2)
    gone.remove(desk, monkeypatch)
    desk.market.advance(gone.waiting_s)
    work(desk, gone.renewing)
    reasons = outcome(desk, second)
    work(desk, gone.renewing)
    assert sent(desk) == 0
    assert reasons == gone.reasons


def test_what_went_away_and_comes_back_lets_the_same_orders_go(desk: Desk) -> None:
    """Otherwise a gateway that sends nothing at all would pass for a careful one."""
    decide(desk, 1)
    desk.permit.revoke()
    desk.halt_file.halt("for tests")
    work(desk, renewing=False)
    assert sent(desk) == 0
    desk.halt_file.clear()
    work(desk)
    assert sent(desk) == 2


def test_a_name_that_is_halted_after_the_decision_is_left_out_and_the_other_is_bought(
    desk: Desk,
) -> None:
    first = decide(desk, 1)
    desk.market.flag(ONE, tradable=False)
    work(desk)
    states = {one.symbol: one.state for one in desk.gateway.answer(first.decision_id).orders}
    assert states == {ONE: OrderState.dropped, TWO: OrderState.filled}
    again = decide(desk, 2)
    assert [(one.symbol, one.reason) for one in again.carried if one.symbol == ONE] == [
        (ONE, "not_tradable")
    ]


@pytest.mark.parametrize("what", ["an order", "a position", "positions that are gone"])
def test_what_a_stranger_does_stops_trading_within_half_a_minute(desk: Desk, what: str) -> None:
    decide(desk, 1)
    work(desk)
    assert desk.ledger.latch().armed
    if what == "an order":
        stranger(desk, pytest.MonkeyPatch())
    elif what == "a position":
        desk.market.move_shares("S003", "7")
    else:  # the broker says that it holds nothing: that is never taken as being flat
        for symbol, shares in desk.market.held().items():
            desk.market.move_shares(symbol, str(-shares))
        assert desk.market.held() == {}
    desk.market.advance(20)
    desk.renew()
    desk.gateway.step()
    assert desk.ledger.latch().tripped
    before = sent(desk)
    assert outcome(desk, wanted(desk, 2)) >= {"latch"}
    work(desk)
    assert sent(desk) == before


def test_a_ledger_that_is_locked_keeps_the_broker_waiting_no_longer_than_the_limit(
    desk: Desk, limits: GatewayLimits
) -> None:
    """Control 26: the latch needs the ledger, the end of the open orders does not."""
    stranger(desk, pytest.MonkeyPatch())
    holder = sqlite3.connect(desk.file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    killer = threading.Thread(target=desk.gateway.kill, args=("for tests", "person"))
    started = time.monotonic()
    killer.start()
    while desk.market.open_orders() and time.monotonic() - started < 4.0:
        time.sleep(0.01)
    took = time.monotonic() - started
    waited = killer.is_alive()
    holder.execute("ROLLBACK")
    holder.close()
    killer.join()
    assert waited, "the ledger did not make it wait"
    assert took < float(limits.max_cancel_s) + 0.5
    assert desk.ledger.latch().tripped
