"""The supervisor renews while all is in order, withholds in doubt, and trips what must trip."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from risk.gateway.limits import GatewayLimits
from risk.gateway.limits_in_force import keep_limits
from risk.gateway.market_facts import BarsSource
from risk.gateway.observer import Permissions
from risk.gateway.submission import Mode
from risk.gateway.supervisor import Supervisor

FOREIGN = {"symbol": "S001", "qty": "3", "side": "buy", "type": "market", "time_in_force": "day"}


@dataclass
class Watch:
    """A supervisor over the venue, and the words for what it sees."""

    supervisor: Supervisor
    venue: Any

    @property
    def permitted(self) -> bool:
        valid: bool = self.venue.permit.valid(self.venue.epoch)
        return valid


@pytest.fixture
def watch(venue: Any, limits: GatewayLimits) -> Callable[..., Watch]:
    with venue.ledger.writing(venue.epoch) as writer:
        keep_limits(writer, limits, "test", venue.now)
    venue.permit.revoke()

    def made(**parts: Any) -> Watch:
        names = Permissions(frozenset(venue.bars.symbols), frozenset(), frozenset())
        found = {
            "broker": venue.broker,
            "ledger": venue.ledger,
            "market": BarsSource(lambda: venue.bars, lambda: "1", "XNYS", 1e9, 0.99),
            "permit": venue.permit,
            "halt_file": venue.halt_file,
            "permissions": names,
            "permit_s": 30.0,
            "clock": lambda: venue.now,
            "own_clock": None,
        }
        return Watch(Supervisor(**(found | parts)), venue)

    return made


def test_while_all_is_in_order_the_permit_lives(watch: Callable[..., Watch]) -> None:
    seen = watch()
    assert not seen.permitted
    assert seen.supervisor.step() == ()
    assert seen.permitted


def test_a_position_that_the_ledger_does_not_have_trips_once_it_was_seen_again(
    watch: Callable[..., Watch], venue: Any, limits: GatewayLimits
) -> None:
    seen = watch()
    venue.foreign_order(FOREIGN)
    venue.advance(120)
    for _ in range(limits.clean_reads - 1):
        assert seen.supervisor.step() == ()
    (reason,) = seen.supervisor.step()
    assert "differ" in reason
    assert venue.ledger.latch().tripped and not seen.permitted
    assert any("tripped" in one for one in seen.supervisor.step()) and not seen.permitted


def test_what_a_slow_gateway_has_not_booked_yet_of_its_own_orders_is_no_drift(
    watch: Callable[..., Watch], venue: Any, limits: GatewayLimits
) -> None:
    seen = watch()
    venue.permit.renew(venue.epoch, 30_000)
    venue.gateway.submit(venue.decision(S000="0.05"), Mode.paper)
    venue.gateway.step()
    venue.advance(120)  # filled at the broker; the gateway does not look any more
    assert venue.broker.positions() and not venue.ledger.positions()
    for _ in range(limits.clean_reads + 2):
        assert seen.supervisor.step() == ()
    assert venue.ledger.latch().armed and seen.permitted
    venue.foreign_order(FOREIGN)
    venue.advance(120)
    for _ in range(limits.clean_reads):
        seen.supervisor.step()
    assert venue.ledger.latch().tripped and "S001" in venue.ledger.latch().reason


def test_a_strange_open_order_trips_and_is_cancelled(
    watch: Callable[..., Watch], venue: Any, limits: GatewayLimits
) -> None:
    seen = watch()
    venue.foreign_order(FOREIGN | {"type": "limit", "limit_price": "1"})
    for _ in range(limits.clean_reads):
        seen.supervisor.step()
    assert venue.ledger.latch().tripped and not seen.permitted
    assert list(venue.broker.open_orders()) == []


def test_a_halt_file_withholds_the_permit(watch: Callable[..., Watch], venue: Any) -> None:
    seen = watch()
    venue.halt_file.halt("a person wants it")
    assert seen.supervisor.step() == ("a HALT file is there",)
    assert not seen.permitted and not venue.ledger.latch().tripped


def test_a_broker_that_does_not_answer_withholds_the_permit(
    watch: Callable[..., Watch], venue: Any
) -> None:
    seen = watch()
    for path in ("/v2/positions", "/v2/account", "/v2/clock"):
        body = {"method": "GET", "path": path, "kind": "status", "status": 500, "nth": 1}
        venue.admin("POST", "/faults", body)
        assert seen.supervisor.step() != () and not seen.permitted, path
        assert not venue.ledger.latch().tripped
    venue.admin("DELETE", "/faults")
    assert seen.supervisor.step() == ()


def test_prices_that_stand_still_withhold_the_permit(
    watch: Callable[..., Watch], venue: Any
) -> None:
    def late() -> datetime:
        found: datetime = venue.now + timedelta(seconds=61)
        return found

    seen = watch(clock=late)
    assert any("fresh quote" in one for one in seen.supervisor.step())
    assert not seen.permitted


def test_a_market_source_that_lacks_the_last_session_withholds_the_permit(
    watch: Callable[..., Watch], venue: Any
) -> None:
    rows = venue.bars.dates < venue.bars.dates[90]
    fields = ("close", "tradable", "listed", "open", "high", "low", "volume")
    cut = {
        name: None if (found := getattr(venue.bars, name)) is None else found[rows]
        for name in fields
    }
    old = replace(venue.bars, dates=venue.bars.dates[rows], **cut)
    seen = watch(market=BarsSource(lambda: old, lambda: "1", "XNYS", 1e9, 0.99))
    assert any("last session" in one for one in seen.supervisor.step())
    assert not seen.permitted


def test_a_clock_that_is_wrong_trips(watch: Callable[..., Watch], venue: Any) -> None:
    def wrong() -> datetime:
        found: datetime = venue.now + timedelta(seconds=5)
        return found

    seen = watch(own_clock=wrong)
    assert any("clock" in one for one in seen.supervisor.step())
    assert venue.ledger.latch().tripped and not seen.permitted


def test_a_loss_trips_once_the_last_readings_confirm_it(
    watch: Callable[..., Watch], venue: Any, limits: GatewayLimits
) -> None:
    seen = watch()
    account = venue.broker.account()
    richer = replace(account, equity=account.equity * Decimal("1.2"))
    with venue.ledger.writing(venue.epoch) as writer:
        writer.add_account(richer, venue.now)  # a peak from which the account has fallen since
        for _ in range(limits.clean_reads):
            writer.add_account(account, venue.now)
    assert any("peak" in one for one in seen.supervisor.step())
    assert venue.ledger.latch().tripped and not seen.permitted
