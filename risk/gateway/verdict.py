"""What a check may say: one reason per aspect of a control, and what follows from it.

docs/controls.md is written from `CONTROLS` and `ReasonCode`. A member's name is what stands in
JSON, in the audit and in alarms: it is never renamed and never used for something else.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, unique
from typing import NamedTuple


class Scope(Enum):
    """Which orders a reason stops; none of them stops less than every order that adds risk."""

    always = "every order, a reducing one too"
    exposure = "orders that do not reduce the position"
    size = "orders that do not reduce the position; in reduce-only mode reducing ones pass"


class Effect(Enum):
    """What the gateway does about a violation."""

    refuse = "refuse the order or the decision"
    skip = "leave the name out, judge the others again"
    hold = "no trade; positions are held"
    wait = "try again while the decision lives"
    halt = "send nothing while it lasts"
    trip = "trip the latch: only a person re-arms"
    alert = "alarm, and go on"


class Reason(NamedTuple):
    """What a reason code stands for."""

    control: int
    scope: Scope
    effect: Effect
    text: str


_ALWAYS, _EXPOSURE, _SIZE = Scope.always, Scope.exposure, Scope.size
_REFUSE, _SKIP, _HOLD, _WAIT, _HALT, _TRIP = (
    Effect.refuse,
    Effect.skip,
    Effect.hold,
    Effect.wait,
    Effect.halt,
    Effect.trip,
)

CONTROLS = {
    1: "largest quantity of an order",
    2: "largest notional of an order",
    3: "price collar",
    4: "reference price fresh and plausible",
    5: "share of the market's volume",
    6: "largest position of a name",
    7: "gross and net exposure, leverage",
    8: "concentration in a sector",
    9: "cash and buying power",
    10: "each agent's own target",
    11: "turnover of day and week",
    12: "number of orders",
    13: "message throttle",
    14: "repeated failures",
    15: "duplicate orders",
    16: "duplicate requests",
    17: "wash trades",
    18: "allow-list and restricted list",
    19: "short sales",
    20: "round trips within a day",
    21: "session and its hours",
    22: "halted names",
    23: "splits and other corporate actions",
    24: "daily loss and drawdown",
    25: "kill switch and latch",
    26: "cancel-all on kill",
    27: "fail closed without the state store",
    28: "reduce-only by position",
    29: "dead man's switch",
    30: "input sanity",
    31: "sanity of the model's output",
    32: "quorum and disagreement of the agents",
    33: "decision TTL",
    34: "caller authentication",
    35: "limit changes",
    36: "reconciliation",
    37: "plausible account snapshot",
    38: "clock skew",
    39: "audit",
    40: "no bypass",
    41: "capital ramp of a young policy",
}


@unique
class ReasonCode(Enum):
    """Why something was not allowed."""

    quantity_cap = Reason(1, _SIZE, _REFUSE, "more shares than one order may have")
    quantity_adv = Reason(1, _SIZE, _REFUSE, "order too large a share of the daily volume")
    notional_cap = Reason(2, _SIZE, _REFUSE, "order worth too large a share of NAV")
    market_order = Reason(3, _ALWAYS, _REFUSE, "no limit price")
    price_collar = Reason(3, _ALWAYS, _REFUSE, "limit price outside the percentage collar")
    sigma_collar = Reason(3, _ALWAYS, _REFUSE, "limit price outside the volatility collar")
    quote_missing = Reason(4, _ALWAYS, _SKIP, "no usable quote")
    quote_stale = Reason(4, _ALWAYS, _WAIT, "quote too old, or from the future")
    quote_crossed = Reason(4, _ALWAYS, _WAIT, "bid above ask")
    quote_jump = Reason(4, _ALWAYS, _SKIP, "quote too far from the last close")
    second_source = Reason(4, _ALWAYS, _SKIP, "the two price sources disagree, or one is missing")
    second_stale = Reason(4, _ALWAYS, _SKIP, "second price older than the last close")
    close_stale = Reason(4, _ALWAYS, _SKIP, "last close is not of the last session")
    participation_order = Reason(5, _SIZE, _REFUSE, "parent order too large a share of the volume")
    participation_day = Reason(5, _SIZE, _REFUSE, "day's trades too large a share of the volume")
    position_cap = Reason(6, _EXPOSURE, _REFUSE, "position too large a share of NAV")
    gross_exposure = Reason(7, _EXPOSURE, _REFUSE, "gross exposure too large")
    net_exposure = Reason(7, _EXPOSURE, _REFUSE, "net exposure too large")
    multiplier = Reason(7, _EXPOSURE, _REFUSE, "account may borrow more than allowed")
    sector_cap = Reason(8, _EXPOSURE, _REFUSE, "sector too large a share of NAV")
    sector_missing = Reason(8, _EXPOSURE, _SKIP, "sector of the name is not known")
    cash_floor = Reason(9, _EXPOSURE, _REFUSE, "too little cash after all fills")
    buying_power = Reason(9, _EXPOSURE, _REFUSE, "more than the broker's buying power")
    target_weight = Reason(10, _ALWAYS, _REFUSE, "target of a name too large")
    agent_weight = Reason(10, _ALWAYS, _REFUSE, "an agent's own target of a name too large")
    agent_gross = Reason(10, _ALWAYS, _REFUSE, "an agent's own exposure too large")
    agent_sum = Reason(10, _ALWAYS, _REFUSE, "the agents' shares do not sum to 1")
    turnover_day = Reason(11, _SIZE, _REFUSE, "traded too much today")
    turnover_week = Reason(11, _SIZE, _REFUSE, "traded too much this week")
    orders_decision = Reason(12, _SIZE, _REFUSE, "too many orders for one decision")
    orders_day = Reason(12, _SIZE, _REFUSE, "too many orders today")
    slices_parent = Reason(12, _ALWAYS, _REFUSE, "too many slices of one order")
    slices_day = Reason(12, _SIZE, _REFUSE, "too many slices today")
    throttle_second = Reason(13, _ALWAYS, _WAIT, "too many messages this second")
    throttle_minute = Reason(13, _ALWAYS, _WAIT, "too many messages this minute")
    repeated_failures = Reason(14, _ALWAYS, _TRIP, "too many refused or failed decisions")
    unknown_orders = Reason(14, _ALWAYS, _TRIP, "too many orders whose outcome is unknown")
    duplicate_order = Reason(15, _ALWAYS, _REFUSE, "the id was used before")
    foreign_id = Reason(15, _ALWAYS, _REFUSE, "the id is not that of this leg")
    request_conflict = Reason(16, _ALWAYS, _REFUSE, "another body under the same decision id")
    request_replayed = Reason(16, _ALWAYS, _REFUSE, "the decision was taken before")
    wash_trade = Reason(17, _ALWAYS, _WAIT, "an opposite order is open")
    not_allowed = Reason(18, _ALWAYS, _REFUSE, "name not on the allow-list")
    restricted = Reason(18, _ALWAYS, _REFUSE, "name on the restricted list")
    short_sale = Reason(19, _ALWAYS, _REFUSE, "position would be sold short beyond the limit")
    short_barred = Reason(19, _EXPOSURE, _REFUSE, "long only, and the broker does not bar shorts")
    borrow_status = Reason(19, _ALWAYS, _REFUSE, "shares cannot be borrowed at once")
    round_trip = Reason(20, _SIZE, _REFUSE, "opposite of a trade of the same day")
    clock_missing = Reason(21, _ALWAYS, _WAIT, "broker's clock or calendar is not known")
    market_closed = Reason(21, _ALWAYS, _REFUSE, "market closed, by broker or calendar")
    calendar_disagrees = Reason(21, _ALWAYS, _REFUSE, "broker's and calendar's close differ")
    opening_buffer = Reason(21, _ALWAYS, _WAIT, "too near the opening")
    closing_buffer = Reason(21, _ALWAYS, _REFUSE, "too near the close")
    not_tradable = Reason(22, _ALWAYS, _SKIP, "name halted, not tradable or not known")
    quarantined = Reason(23, _ALWAYS, _SKIP, "name in quarantine")
    position_jump = Reason(23, _ALWAYS, _SKIP, "broker's position far from the ledger's")
    daily_loss = Reason(24, _EXPOSURE, _TRIP, "loss of the day too large")
    drawdown = Reason(24, _EXPOSURE, _TRIP, "fall from the peak too large")
    latch = Reason(25, _ALWAYS, _HALT, "latch not armed")
    halt_file = Reason(25, _ALWAYS, _HALT, "HALT file present, or its folder unreadable")
    suspended = Reason(25, _ALWAYS, _HALT, "broker was asked to refuse orders")
    blocked = Reason(25, _ALWAYS, _HALT, "account blocked by the broker")
    kill_unverified = Reason(26, _ALWAYS, _HALT, "orders open, or not known, before arming")
    permit = Reason(27, _ALWAYS, _HALT, "no valid permit")
    ledger = Reason(27, _ALWAYS, _TRIP, "ledger cannot be written")
    state_missing = Reason(27, _ALWAYS, _REFUSE, "account, positions, orders or totals not known")
    reduce_only = Reason(28, _ALWAYS, _REFUSE, "order does not reduce the position")
    permit_ttl = Reason(29, _ALWAYS, _HALT, "permit outlives its TTL")
    quantity_invalid = Reason(30, _ALWAYS, _REFUSE, "quantity not positive, or too precise")
    price_invalid = Reason(30, _ALWAYS, _REFUSE, "price not positive, or between ticks")
    symbol_invalid = Reason(30, _ALWAYS, _REFUSE, "not a symbol")
    account_mismatch = Reason(30, _ALWAYS, _REFUSE, "decision is for another account")
    weight_invalid = Reason(31, _ALWAYS, _REFUSE, "a weight is no number, or out of range")
    weight_sum = Reason(31, _ALWAYS, _REFUSE, "weights sum to more than 1")
    weight_move = Reason(31, _ALWAYS, _REFUSE, "weights moved too far from the last ones")
    decision_stale = Reason(31, _ALWAYS, _REFUSE, "not decided at the close of the last session")
    model_unknown = Reason(31, _ALWAYS, _REFUSE, "model not on the allow-list")
    quorum = Reason(32, _ALWAYS, _HOLD, "too few agents")
    disagreement = Reason(32, _ALWAYS, _HOLD, "agents too far apart")
    decision_expired = Reason(33, _ALWAYS, _REFUSE, "decision expired")
    decision_late = Reason(33, _ALWAYS, _REFUSE, "decision not accepted in time")
    session_ended = Reason(33, _ALWAYS, _REFUSE, "decision outlives the session")
    unauthenticated = Reason(34, _ALWAYS, _REFUSE, "caller not known")
    role_missing = Reason(34, _ALWAYS, _REFUSE, "caller lacks the role")
    limits_signatures = Reason(35, _ALWAYS, _REFUSE, "looser limits need two persons")
    limits_effective = Reason(35, _ALWAYS, _REFUSE, "looser limits start with the next session")
    limits_version = Reason(35, _ALWAYS, _REFUSE, "limits are not the version in force")
    reconcile_stale = Reason(36, _ALWAYS, _WAIT, "not reconciled lately")
    drift = Reason(36, _ALWAYS, _TRIP, "positions differ between ledger and broker")
    foreign_order = Reason(36, _ALWAYS, _TRIP, "an order that no decision explains")
    snapshot_stale = Reason(37, _ALWAYS, _WAIT, "account not read lately")
    snapshot_jump = Reason(37, _ALWAYS, _WAIT, "equity jumped and is not confirmed")
    snapshot_implausible = Reason(37, _ALWAYS, _WAIT, "equity is not cash and positions")
    clock_skew = Reason(38, _ALWAYS, _TRIP, "own clock far from the broker's")
    clock_alert = Reason(38, _ALWAYS, Effect.alert, "own clock drifts from the broker's")
    audit = Reason(39, _ALWAYS, _TRIP, "audit cannot be written, or its chain is broken")
    ramp = Reason(41, _EXPOSURE, _REFUSE, "more capital than a young policy may trade")

    @property
    def control(self) -> int:
        """Return the number in `CONTROLS`."""
        return self.value.control

    @property
    def scope(self) -> Scope:
        """Return which orders it stops."""
        return self.value.scope

    @property
    def effect(self) -> Effect:
        """Return what the gateway does about it."""
        return self.value.effect

    @property
    def text(self) -> str:
        """Return the reason in words."""
        return self.value.text


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that would be broken.

    Args:
        code: why.
        limit: the field of the limits that decides; empty where none does.
        allowed: the value allowed, as text.
        proposed: the value seen, as text; "missing" where there was none.
        symbol: of the name; empty where it concerns the account or the decision.
    """

    code: ReasonCode
    limit: str
    allowed: str
    proposed: str
    symbol: str

    def record(self) -> dict[str, str]:
        """Return it for JSON."""
        return {
            "code": self.code.name,
            "limit": self.limit,
            "allowed": self.allowed,
            "proposed": self.proposed,
            "symbol": self.symbol,
        }

    def __str__(self) -> str:
        name = f"{self.symbol}: " if self.symbol else ""
        rule = f" ({self.limit})" if self.limit else ""
        return f"{name}{self.code.text}: {self.proposed}, allowed {self.allowed}{rule}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that speaks against something; nothing does: it is allowed."""

    violations: tuple[Violation, ...]

    @property
    def allowed(self) -> bool:
        """Return whether nothing speaks against it; an alarm does not."""
        return all(item.code.effect is Effect.alert for item in self.violations)

    def record(self) -> dict[str, object]:
        """Return it for JSON."""
        return {
            "allowed": self.allowed,
            "violations": [item.record() for item in self.violations],
        }


def shown(value: object) -> str:
    """Return a value as it stands in a violation: exact, and never in the way a locale has it.

    >>> shown(Decimal("1E+2")), shown(None), shown(Decimal("NaN"))
    ('100', 'missing', 'NaN')
    """
    if value is None:
        return "missing"
    return format(value, "f") if isinstance(value, Decimal) else str(value)
