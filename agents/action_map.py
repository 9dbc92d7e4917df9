"""From an agent's action to the weights it asks for: one object for training, tests and serving.

E environments, A agents, N assets. Weights are fractions of NAV in float64; what they leave is
cash. Exits and breakers act on positions, so the environment applies them, not this map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from agents.mandates import BasePortfolio, ExposureRule, Mandate
from agents.market_tensors import MarketTensors
from risk.breaches import Bounds
from risk.memory_layout import settled
from risk.projection import LimitTensors, SectorTensors, project

SMALLEST_DISTANCE = 1e-12
AT_THE_EDGE = 1e-9  # distance, a fraction of NAV
SMALLEST_SUM = 1e-100  # far below exp(-100), the least that a tilt leaves of a base portfolio


@dataclass(frozen=True, slots=True, eq=False)
class Day:
    """What the map and the observation need of the market at the close of sessions t.

    Args:
        investable: (E, N) float64, 1 or 0.
        base: (E, A, N) base portfolios: sums of 1; 1 / N for a mandate without one.
        rule: (E, A) invested fraction of the mandates' rules.
        beta: (E, N).
        market_volatility: (E,) annualised.
        idiosyncratic_volatility: (E, N) annualised.
    """

    investable: Tensor
    base: Tensor
    rule: Tensor
    beta: Tensor
    market_volatility: Tensor
    idiosyncratic_volatility: Tensor


class _Wish(NamedTuple):
    """What an action asks for, before limits and band.

    Args:
        weights: (E, A, N).
        command: (E, A) how far the exposure is to leave the rule, in [-1, 1].
        tilt: (E, A, N) the averaged scores with this action's.
    """

    weights: Tensor
    command: Tensor
    tilt: Tensor


class ActionMap:
    """Action -> target weights of every agent, given what it holds.

    An action is N scores and one exposure, each in [-1, 1]:

    - the scores enter a slow average, the tilt; weights within the invested part are
      softmax(log(base) + a x tilt) over the investable names;
    - the exposure c moves the invested fraction from the mandate's rule (c = 0) to all cash
      (c = -1) or fully invested (c = +1) along s c + (1 - s) c^3 with slope s, the authority, at
      the rule: small actions are small corrections and both ends keep a live gradient;
    - the result is projected onto the limits, and the book moves towards it as a whole basket,
      leaving a distance of `band` untraded. The band narrows as |c| grows and is gone at
      c = +-1: left constant, it would keep the last 5 % of either end out of reach.

    Args:
        mandates: one per agent, in the order of the second axis.
        market: the sessions that `t` indexes.

    Source:
        The band: convex proportional rebalancing to the edge of a no-trade region, Davis & Norman,
        "Portfolio Selection with Transaction Costs", 1990; per-asset bands would lever the book.
    """

    def __init__(self, mandates: Sequence[Mandate], market: MarketTensors) -> None:
        if not bool(torch.isfinite(market.market_volatility).all()):
            raise ValueError("market volatility must be known at every session")
        self.mandates = tuple(mandates)
        self.market = market
        self.limits = LimitTensors.stack([mandate.limits for mandate in mandates], market.device)
        self._sectors = SectorTensors.of(market.sector_of, market.n_sectors)
        self.target_volatility = self._stack([mandate.target_volatility for mandate in mandates])
        self._tilt_scale = self._stack([mandate.tilt for mandate in mandates]).unsqueeze(-1)
        self._tilt_rate = self._stack([mandate.tilt_rate for mandate in mandates]).unsqueeze(-1)
        self._authority = self._stack([mandate.exposure_authority for mandate in mandates])
        self._band = self._stack([mandate.band for mandate in mandates])

        self._investable = market.investable.to(torch.float64)
        kinds = list(dict.fromkeys(mandate.base for mandate in mandates))
        # (kinds, T, N), 0 where not investable: sums of 1, or of 0 without any investable name.
        self._base = torch.stack([_base_portfolio(kind, market) for kind in kinds])
        self._kind = torch.tensor(
            [kinds.index(mandate.base) for mandate in mandates], device=market.device
        )
        self.has_base = self._stack(
            [float(mandate.base is not BasePortfolio.none) for mandate in mandates]
        ).unsqueeze(-1)
        self._rule = _rule_exposures(mandates, market)  # (T, A)

    def __call__(
        self, action: Tensor, held: Tensor, tilt: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the target weights to trade to after the close of session `t`, and the new tilt.

        Args:
            action: (E, A, N + 1) floating point; N scores, then the exposure; clamped to [-1, 1].
            held: (E, A, N) float64, weights at the close of `t`.
            tilt: (E, A, N) float64, the averaged scores so far; 0 at a start.
            t: (E,) int64.

        Returns:
            (E, A, N) float64 target weights, >= 0 with a sum of at most 1 where `held` has; and
            (E, A, N) float64, the tilt to carry on.

        Raises:
            TypeError: if the weights are not float64 or the action is not floating point; an
                integer buffer would silently truncate every weight to 0.
        """
        if not action.is_floating_point() or not held.dtype == tilt.dtype == torch.float64:
            raise TypeError(
                f"weights and tilt must be float64 and actions floating point, were {held.dtype}, "
                f"{tilt.dtype} and {action.dtype}"
            )
        return self.on(self.day(t), action, held, tilt)

    def day(self, t: Tensor) -> Day:
        """Gather what the market gives at the close of sessions `t` (E,)."""
        market = self.market
        return Day(
            investable=self._investable[t],
            base=self._base[self._kind, t.unsqueeze(-1)],
            rule=self._rule[t],
            beta=market.beta[t],
            market_volatility=market.market_volatility[t],
            idiosyncratic_volatility=market.idiosyncratic_volatility[t],
        )

    def on(self, day: Day, action: Tensor, held: Tensor, tilt: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a call returns, for a day at hand."""
        wish = self._wish(day, action, tilt)
        target = project(
            wish.weights,
            held,
            self.limits,
            self._sectors,
            day.beta,
            day.market_volatility,
            day.idiosyncratic_volatility,
        )
        return no_trade_band(target, held, self._band * (1.0 - wish.command.abs())), wish.tilt

    def wanted(self, day: Day, action: Tensor, tilt: Tensor) -> Tensor:
        """Return the (E, A, N) weights that an action asks for, before any limit and the band.

        Args:
            day: at hand; its E may be 1 for any number of environments.
            action: as for a call.
            tilt: as for a call, before this action.
        """
        return self._wish(day, action, tilt).weights

    def bounds(self, day: Day) -> Bounds:
        """Return what decides whether weights are within the mandates' limits on a day."""
        return Bounds(
            self.limits,
            self._sectors,
            day.beta,
            day.market_volatility,
            day.idiosyncratic_volatility,
        )

    def _wish(self, day: Day, action: Tensor, tilt: Tensor) -> _Wish:
        action = action.to(torch.float64).clamp(-1.0, 1.0)
        tilt = tilt + self._tilt_rate * (action[..., :-1] * day.investable.unsqueeze(1) - tilt)
        # The softmax without its logarithms: a tilt is bounded, so nothing can overflow.
        relative = settled(day.base * (self._tilt_scale * tilt).exp())
        relative_sum = relative.sum(-1).clamp_min(SMALLEST_SUM)

        command = self._command(action[..., -1])
        exposure = day.rule + command * torch.where(command > 0.0, 1.0 - day.rule, day.rule)
        weights = settled(exposure / relative_sum).unsqueeze(-1) * relative
        return _Wish(weights, command, tilt)

    def base_weights(self, t: Tensor) -> Tensor:
        """Return the (E, A, N) base portfolios: sums of 1, or zeros for a mandate without one."""
        return self._base[self._kind, t.unsqueeze(-1)] * self.has_base

    def _command(self, action: Tensor) -> Tensor:
        """Return how far (E, A) the exposure is to leave the rule, in [-1, 1]."""
        return action * (self._authority + (1.0 - self._authority) * action.square())

    def _stack(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self.market.device)


def no_trade_band(target: Tensor, held: Tensor, band: Tensor) -> Tensor:
    """Move from `held` towards `target` until an L1 distance of `band` is left.

    Args:
        target: (..., N) weights.
        held: (..., N) weights.
        band: (...) >= 0, or broadcastable to it.

    Returns:
        (..., N) a convex combination of the two: no limit that both respect is broken.

    >>> held, target = torch.tensor([0.5, 0.0]), torch.tensor([0.0, 0.5])
    >>> no_trade_band(target, held, torch.tensor(0.5))
    tensor([0.2500, 0.2500])
    """
    distance = (target - held).abs().sum(-1)
    # A book that was moved to the edge of its band yesterday stands there to the last bit, or one
    # beside it: rounding must not decide whether it trades.
    beyond = torch.where(distance > band + AT_THE_EDGE, distance - band, 0.0)
    moved = settled(beyond / distance.clamp_min(SMALLEST_DISTANCE))
    return torch.lerp(held, target, moved.unsqueeze(-1))  # exactly `held` at 0, `target` at 1


def _base_portfolio(kind: BasePortfolio, market: MarketTensors) -> Tensor:
    """Return the (T, N) weights that scores of 0 lead to, before the exposure."""
    if kind is BasePortfolio.inverse_volatility:
        amounts = market.investable / market.volatility
    else:
        amounts = market.investable.to(torch.float64)
    return amounts / amounts.sum(-1, keepdim=True).clamp_min(SMALLEST_SUM)


def _rule_exposures(mandates: Sequence[Mandate], market: MarketTensors) -> Tensor:
    """Return the (T, A) exposure of every mandate's rule."""
    columns = []
    for mandate in mandates:
        if mandate.exposure is ExposureRule.full:
            columns.append(torch.ones_like(market.market_volatility))
        else:
            columns.append((mandate.target_volatility / market.market_volatility).clamp_max(1.0))
    return torch.stack(columns, dim=-1)
