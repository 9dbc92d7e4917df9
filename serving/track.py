"""The agents' model books, replayed by the one kernel up to the last session known.

What is served is what the backtest measured: the books begin in cash in the first session of the
test window, as in `tercet backtest`, and the decision of a session is what they ask for at its
close. So an allocation does not depend on who asks, and the replay happens once a day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from agents.ensemble import Mixer
from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.networks import PolicyNetwork
from envs.batch import BatchEnv, EnvSettings
from evaluation.netting import Netting, netting
from evaluation.players import Cast, make_players
from market.bars import BoolArray, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """T sessions of A books; row i belongs to the session `first + i`, the last one included.

    Args:
        first: row of the market at whose close the books begin, in cash.
        held: (T, A, N) weights at the close, before the decision.
        tilt: (T, A, N) averaged scores, before the decision.
        drawdown: (T, A) fraction of the peak NAV.
        nav: (T, A) account currency.
        action: (T, A, N + 1) what the policies said; zeros for an agent played by its rule.
        target: (T, A, N) weights asked for.
        ordered: (T, A) the target differs from what is held.
    """

    first: int
    held: FloatArray
    tilt: FloatArray
    drawdown: FloatArray
    nav: FloatArray
    action: NDArray[np.float32]
    target: FloatArray
    ordered: BoolArray

    def netted(self, mixer: Mixer, regime: NDArray[np.int64]) -> Netting:
        """Return the shares, the account's weights and its trading days.

        Args:
            mixer: of the artefact.
            regime: of every session of the market.
        """
        regimes = regime[self.first : self.first + len(self.nav)]
        return netting(self.nav, self.target, self.ordered, mixer, regimes)


def replay(
    market: MarketTensors,
    mandates: Sequence[Mandate],
    networks: Mapping[str, PolicyNetwork],
    settings: EnvSettings,
    first: int,
    cash_rate: float,
) -> Track:
    """Play the agents from a session to the last one known, and decide in that one too.

    Args:
        market: the shared tensors.
        mandates: one per agent.
        networks: policy -> network; a mandate whose policy has none acts by its rule.
        settings: costs and capital of the model books.
        first: row of the first decision.
        cash_rate: annual, earned on positive cash.
    """
    sessions = market.n_sessions - first
    policies = {mandate.policy: networks.get(mandate.policy) for mandate in mandates}
    eager = replace(settings, compile=False)  # one environment: compiling would take longer
    env = BatchEnv(market, mandates, eager, slice(first, market.n_sessions), cash_rate)
    rows: list[tuple[torch.Tensor, ...]] = []
    with torch.inference_mode():
        players = make_players(market, mandates, [Cast(policies, first, range(1))], sessions)
        env.reset(torch.tensor([first], device=market.device))
        rest = torch.zeros(1, len(mandates), market.n_assets + 1, device=market.device)
        for i in range(sessions):
            action = rest if players is None else players.act(env, i, rest)
            held, tilt, worth = env.held, env.tilt, env.worth
            drawdown = 1.0 - worth / env.books.peak_nav
            target = env.decide(action) if i == sessions - 1 else env.trade(action)[0]
            ordered = (target != held).any(-1)
            rows.append((held, tilt, drawdown, worth, action, target, ordered))
        columns = [torch.cat(column).cpu().numpy() for column in zip(*rows, strict=True)]
    return Track(first, *columns)
