"""What is checked of a decision before anything is planned: who decided, when, and how sanely.

Each check is a pure function of (state, decision, limits); `DECISION_CHECKS` is the list of them.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from itertools import combinations

from risk.checks.arithmetic import NAN, ONE, ZERO, Found, above, below, breach, seconds, unless
from risk.gateway.limits import GatewayLimits
from risk.gateway.records import Decision
from risk.gateway.state import GatewayState
from risk.gateway.verdict import ReasonCode

DecisionCheck = Callable[[GatewayState, Decision, GatewayLimits], Found]
Weights = Mapping[str, Decimal]


def request_is_new(state: GatewayState, decision: Decision, _limits: GatewayLimits) -> Found:
    """Refuse another body under a known id, and one that was taken before (16)."""
    recorded = state.recorded_body
    if recorded is None:
        return ()
    if recorded != decision.body_sha256:
        return (breach(ReasonCode.request_conflict, "", recorded, decision.body_sha256),)
    return (breach(ReasonCode.request_replayed, "", "a new decision", decision.id),)


def account_is_named(state: GatewayState, decision: Decision, _limits: GatewayLimits) -> Found:
    """Refuse a decision for another account (30)."""
    account = state.account.id if state.account is not None else None
    same = account is not None and decision.account == account
    return unless(same, ReasonCode.account_mismatch, account, decision.account)


def model_is_known(state: GatewayState, decision: Decision, _limits: GatewayLimits) -> Found:
    """Refuse a model that nobody allowed (31)."""
    known = None if state.models is None else decision.model_sha256 in state.models
    return unless(known, ReasonCode.model_unknown, "the allow-list", decision.model_sha256)


def weights_are_sane(_state: GatewayState, decision: Decision, limits: GatewayLimits) -> Found:
    """Refuse weights that are no numbers, out of range, or more than everything (10, 31)."""
    sound = _weights(decision.weights, "", limits)
    caps = tuple(
        item
        for symbol, weight in sorted(decision.weights.items())
        for item in above(
            ReasonCode.target_weight,
            "max_weight",
            limits.max_weight + limits.max_weight_error,
            weight,
            symbol,
        )
    )
    total = sum(decision.weights.values(), ZERO)
    allowed = ONE + limits.max_weight_error
    return (*sound, *caps, *above(ReasonCode.weight_sum, "max_weight_error", allowed, total))


def names_are_allowed(state: GatewayState, decision: Decision, _limits: GatewayLimits) -> Found:
    """Refuse weights for names that are not on the allow-list (18)."""
    if state.allowed is None:
        return (breach(ReasonCode.not_allowed, "", "the allow-list", None),)
    books = (decision.weights, *(weights for _, weights in decision.agents.values()))
    wanted = {symbol for book in books for symbol in book}
    return tuple(
        breach(ReasonCode.not_allowed, "", "the allow-list", ascii(symbol)[:40], symbol[:16])
        for symbol in sorted(wanted - state.allowed)
    )


def agents_are_sane(_state: GatewayState, decision: Decision, limits: GatewayLimits) -> Found:
    """Refuse when an agent's own book would break a limit (10)."""
    found: Found = ()
    for agent, (share, weights) in sorted(decision.agents.items()):
        found += unless(ZERO <= share <= ONE, ReasonCode.agent_sum, "in [0, 1]", share, agent)
        found += _weights(weights, f"{agent}/", limits)
        for symbol, weight in sorted(weights.items()):
            found += above(
                ReasonCode.agent_weight,
                "max_agent_weight",
                limits.max_agent_weight + limits.max_weight_error,
                weight,
                f"{agent}/{symbol}",
            )
        gross = sum((abs(weight) for weight in weights.values()), ZERO)
        found += above(
            ReasonCode.agent_gross,
            "max_agent_gross",
            limits.max_agent_gross + limits.max_weight_error,
            gross,
            agent,
        )
    shares = sum((share for share, _ in decision.agents.values()), ZERO)
    return found + above(
        ReasonCode.agent_sum, "max_weight_error", limits.max_weight_error, abs(shares - ONE)
    )


def agents_agree(_state: GatewayState, decision: Decision, limits: GatewayLimits) -> Found:
    """Hold when too few agents take part, or two are too far apart (32)."""
    taking_part = {name: weights for name, (share, weights) in decision.agents.items() if share > 0}
    found = below(ReasonCode.quorum, "min_agents", limits.min_agents, len(taking_part))
    for one, other in combinations(sorted(taking_part), 2):
        apart = distance(taking_part[one], taking_part[other]) / 2
        found += above(
            ReasonCode.disagreement,
            "max_disagreement",
            limits.max_disagreement,
            apart,
            f"{one}/{other}",
        )
    return found


def move_is_small(state: GatewayState, decision: Decision, limits: GatewayLimits) -> Found:
    """Refuse a jump away from the last decision (31)."""
    last = state.last_weights
    moved = NAN if last is None else distance(decision.weights, last)
    return above(ReasonCode.weight_move, "max_weight_move", limits.max_weight_move, moved)


def decision_is_current(state: GatewayState, decision: Decision, limits: GatewayLimits) -> Found:
    """Refuse what was not decided at the last close, or comes too late (31, 33)."""
    last, hours = state.previous_session, state.hours
    found = unless(
        last is not None and decision.as_of == last,
        ReasonCode.decision_stale,
        last,
        decision.as_of,
    )
    found += unless(
        state.now <= decision.expires_at,
        ReasonCode.decision_expired,
        decision.expires_at,
        state.now,
    )
    if hours is None:
        return (*found, breach(ReasonCode.session_ended, "", "a session", None))
    found += unless(
        hours.open < decision.expires_at <= hours.close,
        ReasonCode.session_ended,
        hours.close,
        decision.expires_at,
    )
    waited = NAN
    if state.received_at is not None:
        ready = hours.open + timedelta(seconds=float(limits.open_buffer_s))
        waited = seconds(state.now - max(state.received_at, ready))
    return found + above(ReasonCode.decision_late, "decision_ttl_s", limits.decision_ttl_s, waited)


def distance(one: Weights, other: Weights) -> Decimal:
    """Return the L1 distance of two books; NaN where a weight is none."""
    return sum(
        (abs(one.get(symbol, ZERO) - other.get(symbol, ZERO)) for symbol in sorted({*one, *other})),
        ZERO,
    )


def _weights(weights: Weights, prefix: str, limits: GatewayLimits) -> Found:
    return tuple(
        breach(ReasonCode.weight_invalid, "max_short_weight", "in range", weight, prefix + symbol)
        for symbol, weight in sorted(weights.items())
        if not -limits.max_short_weight <= weight <= ONE + limits.max_weight_error
    )


DECISION_CHECKS: tuple[DecisionCheck, ...] = (
    request_is_new,
    account_is_named,
    model_is_known,
    weights_are_sane,
    names_are_allowed,
    agents_are_sane,
    agents_agree,
    move_is_small,
    decision_is_current,
)
