"""The strategy's rules at work: what they remember, what they make of a target, and when they exit.

`risk.gateway.strategy` has the rules, `day_end` what is remembered from close to close; here both
meet the ledger. Rules only ever make a target smaller.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import ROUND_CEILING, Decimal

from market.errors import InputError
from risk.checks.prices import reference_price
from risk.gateway.alarms import Alarm, alarm
from risk.gateway.broker import Broker
from risk.gateway.day_end import (
    next_day,
    next_tracked,
    seen,
    standing_of,
    transferred,
    with_transfers,
)
from risk.gateway.ledger import Ledger
from risk.gateway.market_days import MarketDay, MarketDays
from risk.gateway.records import SessionHours
from risk.gateway.rows import session_of
from risk.gateway.state import GatewayState
from risk.gateway.stored import DRY_RUN, EXITS, DecisionState
from risk.gateway.strategy import (
    Adjusted,
    Change,
    Holding,
    StrategyRules,
    adjusted,
    exits_of,
    exposure_of,
)
from risk.gateway.strategy_reads import DayEnd, Ramp, Tracked
from risk.gateway.writer import Writer

EXIT_RULES = frozenset({"stop_loss", "take_profit", "trailing_stop", "time_stop"})
FOLLOWED = frozenset({DecisionState.accepted, DecisionState.done})
GRAIN = Decimal("1e-12")  # of a weight that only says what is held


@dataclass(frozen=True, slots=True)
class Known:
    """What the rules know before a session's trades.

    Args:
        day: the last close.
        tracked: by symbol.
    """

    day: DayEnd
    tracked: Mapping[str, Tracked]


class Strategist:
    """One account's strategy.

    Args:
        ledger: which this process has taken over.
        epoch: of that.
        broker: of the account.
        rules: of the strategy.
        market: the states of the market.
        clock: UTC, the one that sessions follow.
    """

    def __init__(
        self,
        ledger: Ledger,
        epoch: int,
        broker: Broker,
        rules: StrategyRules,
        market: MarketDays,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger, self._epoch, self._broker = ledger, epoch, broker
        self._rules, self._market, self._clock = rules, market, clock
        self._rolled: date | None = None  # the last close that is known to be in the ledger

    def roll(self, hours: SessionHours | None, previous: date | None) -> None:
        """Keep the last close, once; where the gateway was not there at the close, as it is now.

        Args:
            hours: of the session that the calendar has today; None where it has none.
            previous: the last completed session by the calendar.

        Raises:
            BrokerError: if the broker does not say what the account is.
            LedgerFailed, StaleEpoch: if it could not be made durable.
        """
        if previous is None or self._rolled == previous:
            return
        days = self._ledger.days(1)
        before = days[0] if days else None
        if before is not None and before.session >= previous:
            self._rolled = previous
            return
        market = self._market.last(self._clock())
        if market is None:
            alarm(Alarm.market_unknown, f"session {previous}")
            return
        if self._keep_close(before, market, hours):
            self._rolled = market.session

    def adjust(self, weights: Mapping[str, Decimal], state: GatewayState) -> Adjusted | None:
        """Return a decision's weights as the rules leave them; None where too little is known."""
        known = self._known(state)
        if known is None or state.account is None:
            return None
        barred = frozenset(name for name, one in known.tracked.items() if one.barred > 0)
        return adjusted(
            weights,
            self._holdings(state, known.tracked),
            self._exposure(state, known),
            barred,
            state.facts,
            self._rules,
        )

    def exits(self, state: GatewayState) -> Adjusted | None:
        """Return what is held, less what exits and breakers take of it; None where it is not known.

        Breakers halve what the last decision wanted, not what is held: held again and again, it
        would melt away.
        """
        known = self._known(state)
        if known is None or state.account is None:
            return None
        held = _weights(state)
        exposure = self._exposure(state, known)
        leaving = exits_of(self._holdings(state, known.tracked), self._rules.exits)
        last = state.last_weights or {}
        changes = []
        for symbol, before in sorted(held.items()):
            rule, after = leaving.get(symbol), Decimal(0)
            if rule is None and exposure < 1:
                rule, after = "breakers", min(before, last.get(symbol, Decimal(0)) * exposure)
            if rule is not None and after < before:
                changes.append(Change(symbol, rule, before, after))
        return Adjusted(held | {one.symbol: one.after for one in changes}, tuple(changes))

    def exits_are_due(self, now: datetime, hours: SessionHours | None) -> bool:
        """Return whether it is late in a session that has followed no decision yet."""
        if hours is None or not now < hours.close:
            return False
        if (hours.close - now).total_seconds() > self._rules.exits_before_close_s:
            return False
        return not any(
            one.state in FOLLOWED and one.mode != DRY_RUN
            for one in self._ledger.decisions(session_of(now))
        )

    def remember(self, writer: Writer, changes: Sequence[Change]) -> None:
        """Bar the names that are left from a new entry, in the transaction that decides it."""
        tracked = writer.tracked()
        cooldown = self._rules.exits.cooldown or 0
        for change in changes:
            if change.rule in EXIT_RULES:
                before = tracked.get(change.symbol) or _untracked(change.symbol)
                # One more than the rule says: this session's own close counts one down.
                writer.put_tracked(replace(before, barred=cooldown + 1))

    def share(self, model: str) -> Decimal:
        """Return the share of NAV that a policy may have invested, in (0, 1]."""
        ramp = self._ledger.ramp(model)
        return self._rules.share(0 if ramp is None else ramp.stage)

    def ramped(self, state: GatewayState, model: str) -> GatewayState:
        """Return a state with the share of NAV that a policy may have invested."""
        return replace(state, ramp=self.share(model))

    def set_stage(self, model: str, stage: int, actor: str) -> Ramp:
        """Move a policy to a stage of the ramp because a person wants it; up by one at most.

        Raises:
            InputError: if there is no such stage, or it is more than one up.
            LedgerFailed, StaleEpoch: if it could not be made durable.
        """
        known = self._ledger.ramp(model)
        now = 0 if known is None else known.stage
        if not 0 <= stage < len(self._rules.ramp):
            raise InputError(f"the ramp has the stages 0 to {len(self._rules.ramp) - 1}")
        if stage > now + 1:
            raise InputError(f"the policy is at stage {now}; it goes up one stage at a time")
        ramp = Ramp(model, stage, 0, actor, self._clock())
        with self._ledger.writing(self._epoch) as writer:
            writer.put_ramp(ramp)
        self._tell(ramp)
        return ramp

    def _keep_close(
        self, before: DayEnd | None, market: MarketDay, hours: SessionHours | None
    ) -> bool:
        """Keep a close; False where the account is worth nothing, and there is none."""
        now, account = self._clock(), self._broker.account()
        positions = self._broker.positions()
        closed = hours is None or not hours.open <= now < hours.close
        equity = account.equity if closed else account.last_equity
        if not equity > 0:
            alarm(Alarm.market_unknown, f"the account is worth {equity}")
            return False
        elapsed = 1
        if before is not None:
            elapsed = max(self._market.elapsed(before.session, market.session), 1)
        with self._ledger.writing(self._epoch) as writer:
            if before is not None:
                moved = transferred(
                    one for one in writer.activities(before.session) if one.day <= market.session
                )
                before = with_transfers(before, moved)
            start = writer.starting_equity() or equity  # of an account that was empty then: now's
            model = _followed(writer, market.session) or (before.model if before else None)
            day = next_day(
                before, start, account, equity, market, elapsed, self._rules.breakers, model
            )
            writer.put_day(day)
            writer.set_regime(market.session, market.regime)
            if before is not None and model is not None:
                returns = equity / before.equity - 1
                writer.add_performance(model, market.session, market.regime, returns)
            tracked = writer.tracked()
            for symbol in sorted({*tracked, *positions}):
                position = positions.get(symbol)
                writer.put_tracked(next_tracked(tracked.get(symbol), symbol, position, elapsed))
            ramp = self._ramped(writer, market.session, now)
        if day.exposure < 1:
            alarm(Alarm.rule_hit, f"breakers leave {day.exposure} of the exposure")
        if ramp is not None:
            self._tell(ramp)
        return True

    def _ramped(self, writer: Writer, session: date, now: datetime) -> Ramp | None:
        """Count a session for the policy that was followed in it; return a stage that is new."""
        model = _followed(writer, session)
        if model is None:
            return None
        before = writer.ramp(model) or Ramp(model, 0, 0, "gateway", now)
        tripped = any(
            one.tripped and one.at is not None and session_of(one.at) == session
            for one in writer.latch_history()
        )
        ramp = replace(before, sessions=0 if tripped else before.sessions + 1)
        last = len(self._rules.ramp) - 1
        if ramp.sessions >= self._rules.ramp_sessions and ramp.stage < last:
            ramp = Ramp(model, ramp.stage + 1, 0, "gateway", now)
        writer.put_ramp(ramp)
        return ramp if ramp.stage != before.stage else None

    def _tell(self, ramp: Ramp) -> None:
        share = self._rules.share(ramp.stage)
        alarm(
            Alarm.ramp_changed, f"{ramp.model[:12]} at stage {ramp.stage}: {share} ({ramp.actor})"
        )

    def _known(self, state: GatewayState) -> Known | None:
        """Return what is remembered, if it is of the last completed session."""
        days = self._ledger.days(1)
        if not days or days[0].session != state.previous_session:
            return None
        moved = transferred(self._ledger.activities(days[0].session))
        return Known(with_transfers(days[0], moved), self._ledger.tracked())

    def _exposure(self, state: GatewayState, known: Known) -> Decimal:
        """Return what the breakers leave: by the last close, and less if the day is bad already."""
        assert state.account is not None, "asked for before"
        day = known.day
        standing = standing_of(
            state.account.equity, day.peak, day.starting_equity, day.losing_days, day.volatility
        )
        return min(day.exposure, exposure_of(standing, self._rules.breakers))

    def _holdings(self, state: GatewayState, tracked: Mapping[str, Tracked]) -> dict[str, Holding]:
        """Return what the exits look at; a name without a price cannot be traded, and waits."""
        holdings = {}
        for symbol, position in (state.positions or {}).items():
            price = reference_price(state.quotes.get(symbol))
            if not (position.quantity > 0 and price > 0):
                continue
            before = tracked.get(symbol)
            known = before is not None and before.shares > 0
            peak = seen(before, position).peak if before is not None and known else price
            holdings[symbol] = Holding(
                entry=position.average_price,
                price=price,
                peak=max(peak, price),
                age=before.age if before is not None and known else 0,
            )
        return holdings


def _untracked(symbol: str) -> Tracked:
    zero = Decimal(0)
    return Tracked(symbol, zero, zero, zero, 0, 0)


def _followed(writer: Writer, session: date) -> str | None:
    """Return the model that was followed last in a session."""
    for stored in reversed(writer.decisions(session)):
        if stored.state in FOLLOWED and stored.mode not in (DRY_RUN, EXITS):
            return stored.decision.model_sha256
    return None


def _weights(state: GatewayState) -> dict[str, Decimal]:
    """Return what is held, as fractions of NAV at the reference prices, never a bit too little."""
    assert state.account is not None and state.account.equity > 0, "asked for before"
    found = {}
    for symbol, position in (state.positions or {}).items():
        price = reference_price(state.quotes.get(symbol))
        if position.quantity > 0 and price > 0:
            weight = position.quantity * price / state.account.equity
            found[symbol] = weight.quantize(GRAIN, rounding=ROUND_CEILING)
    return found
