"""A sound account in mid-session: five names, some held, and an order that passes every check."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from risk.gateway.identity import client_order_id
from risk.gateway.limits import GatewayLimits, limits_from_record
from risk.gateway.records import (
    Account,
    Asset,
    BrokerClock,
    Decision,
    OrderRequest,
    Position,
    Quote,
    SessionHours,
    Side,
)
from risk.gateway.state import GatewayState, NameFacts, ProposedOrder
from risk.gateway.stored import DayTotals

CONF = Path(__file__).parents[2] / "conf"
D = Decimal
FIFTY, HUNDRED = D(50), D(100)
NOW = datetime(2024, 3, 6, 16, 0, tzinfo=UTC)
HOURS = SessionHours(
    date(2024, 3, 6),
    datetime(2024, 3, 6, 14, 30, tzinfo=UTC),
    datetime(2024, 3, 6, 21, 0, tzinfo=UTC),
)
LAST_CLOSE = datetime(2024, 3, 5, 21, 0, tzinfo=UTC)
ACCOUNT_ID, DECISION_ID, MODEL, BODY = "PA1", "d" * 64, "a" * 64, "b" * 64
SECTORS = {"AAA": "energy", "BBB": "energy", "CCC": "health", "DDD": "banks", "EEE": "tech"}


def conf_values(group: str, name: str) -> dict[str, Any]:
    """Return the values of a YAML file, those that it starts from included."""
    values = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    bases = [base for base in values.pop("defaults") if isinstance(base, str)]
    for base in bases:
        if base != "_self_" and not base.endswith("_schema"):
            values = conf_values(group, base) | values
    return values


@dataclass(frozen=True)
class GatewayCase:
    """A state, limits and an order that pass; tests change one thing each."""

    limits: GatewayLimits
    state: GatewayState
    decision: Decision

    def order(
        self,
        symbol: str = "CCC",
        side: Side = Side.buy,
        quantity: Decimal = FIFTY,
        limit: Decimal | None = HUNDRED,
        slice: int = 0,
        slices: int = 1,
    ) -> ProposedOrder:
        """Return an order of the decision with its own id."""
        leg = client_order_id(ACCOUNT_ID, DECISION_ID, symbol, side, slice)
        request = OrderRequest(leg, symbol, side, quantity, limit)
        return ProposedOrder(request, DECISION_ID, slice, slices, NOW, D(100))

    def with_limits(self, **values: Any) -> "GatewayCase":
        """Return the case under other limits, which are in force."""
        limits = replace(self.limits, **values)
        return replace(
            self, limits=limits, state=replace(self.state, limits_version=limits.version)
        )

    def with_state(self, **values: Any) -> "GatewayCase":
        """Return the case in another state."""
        return replace(self, state=replace(self.state, **values))

    def with_account(self, **values: Any) -> "GatewayCase":
        """Return the case with another account."""
        account = self.state.account
        assert account is not None
        return self.with_state(account=replace(account, **values))

    def with_name(self, kind: str, symbol: str, **values: Any) -> "GatewayCase":
        """Return the case with other words of one source (quotes, assets...) about a name."""
        records: Mapping[str, Any] = getattr(self.state, kind)
        return self.with_state(**{kind: {**records, symbol: replace(records[symbol], **values)}})

    def holding(self, shares: Mapping[str, Decimal]) -> "GatewayCase":
        """Return the case with these positions at 100 each, the rest of 100,000 in cash."""
        positions = {
            symbol: Position(symbol, quantity, D(100), D(100))
            for symbol, quantity in shares.items()
        }
        cash = D(100_000) - sum((quantity * 100 for quantity in shares.values()), D(0))
        return self.with_state(positions=positions, ledger_positions=dict(shares)).with_account(
            cash=cash, buying_power=D(100_000)
        )


@pytest.fixture(scope="session")
def case() -> GatewayCase:
    """Return a sound account of 100,000 with 100 shares each of AAA and BBB at 100."""
    limits = limits_from_record(conf_values("gateway", "balanced"))
    account = Account(
        id=ACCOUNT_ID,
        paper=True,
        currency="USD",
        cash=D(80_000),
        equity=D(100_000),
        last_equity=D(100_000),
        buying_power=D(80_000),
        multiplier=D(1),
        no_shorting=True,
        suspended=False,
        blocked=False,
    )
    names = tuple(SECTORS)
    quote_at, close_at = NOW - timedelta(seconds=5), LAST_CLOSE
    state = GatewayState(
        now=NOW,
        account=account,
        account_at=NOW - timedelta(seconds=2),
        positions={name: Position(name, D(100), D(90), D(100)) for name in ("AAA", "BBB")},
        ledger_positions={"AAA": D(100), "BBB": D(100)},
        open_orders=(),
        quotes={name: Quote(name, D("99.9"), D("100.1"), D(100), quote_at) for name in names},
        second={name: Quote(name, None, None, D(100), close_at) for name in names},
        assets={name: Asset(name, True, True, True, True) for name in names},
        facts={
            name: NameFacts(D(100), date(2024, 3, 5), D(1_000_000), D("0.01"), sector, frozenset())
            for name, sector in SECTORS.items()
        },
        allowed=frozenset(names),
        restricted=frozenset(),
        quarantined=frozenset(),
        clock=BrokerClock(NOW, True, HOURS.open + timedelta(days=1), HOURS.close),
        hours=HOURS,
        previous_session=date(2024, 3, 5),
        previous_close=LAST_CLOSE,
        skew_s=D("0.01"),
        armed=True,
        permit_left_s=D(20),
        halted=False,
        reducing=False,
        ledger_writable=True,
        audit_intact=True,
        limits_version=limits.version,
        reconciled_at=NOW - timedelta(seconds=3),
        drifted=frozenset(),
        foreign=frozenset(),
        failures=0,
        unknown_orders=0,
        used_ids=frozenset(),
        counted=frozenset(),
        day=DayTotals(0, 0, D(0), 0),
        week_notional=D(0),
        parents={},
        name_day={},
        messages_second=0,
        messages_minute=0,
        equity_reads=(D(100_000),) * 3,
        peak_equity=D(100_000),
        models=frozenset({MODEL}),
        last_weights={},
        recorded_body=None,
        received_at=NOW - timedelta(seconds=1),
        ramp=D(1),
    )
    weights = {"AAA": D("0.1"), "CCC": D("0.05")}
    decision = Decision(
        id=DECISION_ID,
        account=ACCOUNT_ID,
        as_of=date(2024, 3, 5),
        expires_at=HOURS.close,
        model_sha256=MODEL,
        weights=weights,
        agents={"balanced": (D("0.6"), weights), "aggressive": (D("0.4"), weights)},
        body_sha256=BODY,
    )
    return GatewayCase(limits, state, decision)
