"""What is said of a decision over HTTP: its orders, how well they went, what was left and changed.

Amounts are always written as strings.
"""

from decimal import Decimal

from risk.access.strict import Strict, plain
from risk.gateway.messages import Sha256
from risk.gateway.quality import Quality
from risk.gateway.submission import Answer

TENTH, BILLIONTH = Decimal("0.1"), Decimal("0.000000001")


class OrderAnswer(Strict):
    """One order and how far it has come."""

    client_order_id: str
    symbol: str
    side: str
    quantity: str
    limit_price: str | None
    reference_price: str  # what it was planned at
    state: str
    filled: str
    average_price: str | None
    detail: str | None
    arrival_price: str | None  # reference price as it was sent
    slippage_bp: str | None  # beyond the price that it was planned at; > 0 is a loss
    arrival_bp: str | None  # beyond the price as it was sent
    commission: str
    participation: str | None  # filled / average daily volume
    volatility: str | None  # standard deviation of the name's daily returns
    ack_ms: int | None  # from sending to the broker's answer
    filling_s: float | None  # from the broker's acceptance to the last fill


class CarriedAnswer(Strict):
    """What today's limits leave for the next session."""

    symbol: str
    side: str
    notional: str
    reason: str


class ChangeAnswer(Strict):
    """What a rule of the strategy took of a wanted weight."""

    symbol: str
    rule: str
    before: str
    after: str


class DecisionAnswer(Strict):
    """What came of a decision so far."""

    decision_id: Sha256
    state: str
    reasons: list[str]
    violations: list[dict[str, str]] | None  # None where it was judged before
    orders: list[OrderAnswer]
    carried: list[CarriedAnswer]
    changes: list[ChangeAnswer]


def to_answer(answer: Answer) -> DecisionAnswer:
    """Return what is said of a decision."""
    verdict = answer.verdict
    return DecisionAnswer(
        decision_id=answer.decision_id,
        state=answer.state.value,
        reasons=list(answer.reasons),
        violations=None if verdict is None else [one.record() for one in verdict.violations],
        orders=[_order(one) for one in answer.qualities],
        carried=[
            CarriedAnswer(
                symbol=one.symbol,
                side=one.side.value,
                notional=plain(one.notional),
                reason=one.reason,
            )
            for one in answer.carried
        ],
        changes=[
            ChangeAnswer(
                symbol=one.symbol, rule=one.rule, before=plain(one.before), after=plain(one.after)
            )
            for one in answer.changes
        ],
    )


def _order(one: Quality) -> OrderAnswer:
    order, arrival = one.order, one.arrival
    return OrderAnswer(
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        side=order.side.value,
        quantity=plain(order.quantity),
        limit_price=_text(order.limit_price),
        reference_price=plain(order.reference_price),
        state=order.state.value,
        filled=plain(order.filled),
        average_price=_text(order.average_price),
        detail=order.detail,
        arrival_price=None if arrival is None else plain(arrival.price),
        slippage_bp=_rounded(one.slippage_bp, TENTH),
        arrival_bp=_rounded(one.arrival_bp, TENTH),
        commission=plain(one.commission),
        participation=_rounded(one.participation, BILLIONTH),
        volatility=None if arrival is None else _text(arrival.sigma),
        ack_ms=None if arrival is None else arrival.ack_ms,
        filling_s=one.filling_s,
    )


def _rounded(value: Decimal | None, to: Decimal) -> str | None:
    return None if value is None else plain(value.quantize(to))


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)
