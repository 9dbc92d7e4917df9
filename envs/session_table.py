"""What a step reads of the market, one row per session: one gather instead of twenty.

Rows of one session lie together in memory, so that environments on scattered days wait for memory
once each, and a batch of one does not spend its time on calls.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.action_map import ActionMap, Day
from agents.market_tensors import MarketTensors
from envs.costs import CostModel, unit_impact
from envs.kernel import Prices, Session
from risk.memory_layout import environments_inside


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Everything stamped with one session of each environment.

    Args:
        day: what the action map and the observation need.
        open: (E, 1, N) fill price.
        close: (E, 1, N).
        per_open: (E, 1, N) its reciprocal.
        tradable: (E, 1, N) as in `Session`.
        payout: (E, 1, N) likewise.
        kept: (E, 1, N) likewise.
        unit_impact: (E, 1, N) for trades decided at its close, or None.
        momentum: (E, N).
        market_night: (E,) return of the reference portfolio up to the fill.
        market_day: (E,) and from there to the close.
    """

    day: Day
    open: Tensor
    per_open: Tensor
    close: Tensor
    tradable: Tensor
    payout: Tensor
    kept: Tensor
    unit_impact: Tensor | None
    momentum: Tensor
    market_night: Tensor
    market_day: Tensor


def session_between(before: Record, after: Record, cash_return: float) -> Session:
    """Return what trading between two closes needs."""
    return Session(
        last_close=before.close,
        fill=after.open,
        per_fill=after.per_open,
        close=after.close,
        tradable=after.tradable,
        payout=after.payout,
        kept=after.kept,
        unit_impact=before.unit_impact,
        cash_return=cash_return,
    )


class SessionTable:
    """The sessions of a market, each in one row.

    Args:
        market: the sessions.
        prices: of the same market.
        costs: whose impact is tabled.
        action_map: whose base portfolios and rules are tabled.
        first: the first session that may be gathered.
        inside: whether environments are to be innermost in memory, for compiled loops
            that run along them; the eager operations prefer the order of the axes.
    """

    def __init__(
        self,
        market: MarketTensors,
        prices: Prices,
        costs: CostModel,
        action_map: ActionMap,
        first: int,
        inside: bool,
    ) -> None:
        rows = slice(first, market.n_sessions)
        everything = action_map.day(torch.arange(first, market.n_sessions, device=market.device))
        impact = unit_impact(costs, prices.daily_volatility, prices.adv)
        by_asset = {
            "open": prices.open,
            "close": prices.close,
            "per_open": 1.0 / prices.open,
            "tradable": prices.tradable,
            "payout": prices.payout.nan_to_num(nan=0.0),
            "kept": prices.payout.isnan(),
            "momentum": market.momentum,
            "beta": market.beta,
            "idiosyncratic_volatility": market.idiosyncratic_volatility,
        } | ({} if impact is None else {"unit_impact": impact})
        night = market.reference_night
        by_session = {
            "market_volatility": market.market_volatility,
            "market_night": night,
            "market_day": (1.0 + market.reference_return) / (1.0 + night) - 1.0,
        }
        self._first = first
        self._inside = inside
        self._assets, self._agents = everything.base.shape[-1], everything.base.shape[1]
        self._by_asset, self._by_session = tuple(by_asset), tuple(by_session)
        columns = [table[rows].to(torch.float64) for table in by_asset.values()]
        columns += [everything.investable, *everything.base.unbind(1)]
        scalars = [table[rows] for table in by_session.values()]
        self._table = torch.cat([*columns, torch.stack(scalars, 1), everything.rule], dim=1)

    def rows(self, t: Tensor) -> Tensor:
        """Gather the (E, C) rows of sessions `t` (E,)."""
        rows = self._table.index_select(0, t - self._first)
        return environments_inside(rows) if self._inside else rows

    def record(self, rows: Tensor) -> Record:
        """Return what gathered rows hold, without copying them."""
        wide = len(self._by_asset) + 1 + self._agents
        assets = rows[:, : wide * self._assets].view(-1, wide, self._assets)
        scalars = rows[:, wide * self._assets :]
        base = len(self._by_asset) + 1
        column = {name: assets[:, i] for i, name in enumerate(self._by_asset)}
        scalar = {name: scalars[:, i] for i, name in enumerate(self._by_session)}
        impact = column.get("unit_impact")
        return Record(
            day=Day(
                investable=assets[:, base - 1],
                base=assets[:, base:],
                rule=scalars[:, len(self._by_session) :],
                beta=column["beta"],
                market_volatility=scalar["market_volatility"],
                idiosyncratic_volatility=column["idiosyncratic_volatility"],
            ),
            open=column["open"].unsqueeze(1),
            close=column["close"].unsqueeze(1),
            per_open=column["per_open"].unsqueeze(1),
            tradable=column["tradable"].unsqueeze(1),
            payout=column["payout"].unsqueeze(1),
            kept=column["kept"].unsqueeze(1),
            unit_impact=None if impact is None else impact.unsqueeze(1),
            momentum=column["momentum"],
            market_night=scalar["market_night"],
            market_day=scalar["market_day"],
        )
