"""The market as a PettingZoo parallel environment: a thin shell over a batch of one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from agents.observation import Blocks, ObservationSpec
from envs.batch import BatchEnv

FloatVector = NDArray[np.float32]


class MarketEnv(ParallelEnv):  # type: ignore[misc]  # PettingZoo ships no types
    """Portfolio agents that trade one market, each with its own book, reward and limits.

    Observation:
        (D,) float32 in [-bound, bound]: the blocks of `agents.observation.Blocks` one after the
        other (`ObservationSpec.split` takes them apart): the market's features of the day, which
        names can be held, and the state of the agent's own book. All is known at the close of the
        current session.

    Action:
        (N + 1,) float32 in [-1, 1]: a score per asset, then the exposure correction. All zeros is
        the mandate's rule: its base portfolio at its rule exposure. Values outside are clamped.

    Reward:
        The mandate's weighted sum of unit-free terms of one session, O(0.01).

    Start:
        Every book in cash at the close of a random session of the visited rows; the same seed
        draws the same one. `options={"start": row}` names it.

    End:
        `terminated` when a book falls to the ruin fraction of its capital; `truncated` for
        every live agent when the episode or the data ends.

    Args:
        batch: an environment that nobody else steps.
        spec: the layout of the observation.
    """

    metadata = {"name": "tercet_market_v0", "render_modes": []}  # noqa: RUF012  # PettingZoo's form

    def __init__(self, batch: BatchEnv, spec: ObservationSpec) -> None:
        self.batch = batch
        self.spec = spec
        self.render_mode = None
        self.possible_agents = [mandate.name for mandate in batch.mandates]
        self.agents: list[str] = []
        self._generator = torch.Generator()
        self._generator.seed()
        width = batch.market.n_assets + 1
        self._observations = {
            name: Box(-spec.bound, spec.bound, (spec.size,), np.float32)
            for name in self.possible_agents
        }
        self._actions = {name: Box(-1.0, 1.0, (width,), np.float32) for name in self._observations}
        self._index = {name: a for a, name in enumerate(self.possible_agents)}

    def observation_space(self, agent: str) -> Box:
        """Return the agent's observation space, the same object every time."""
        return self._observations[agent]

    def action_space(self, agent: str) -> Box:
        """Return the agent's action space, the same object every time."""
        return self._actions[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, FloatVector], dict[str, dict[str, Any]]]:
        """Start an episode.

        Args:
            seed: seeds the draw of this and all later starts; None goes on with the stream.
            options: `{"start": row}` to begin at that row.

        Raises:
            ValueError: if the start is outside the visited rows.
        """
        if seed is not None:
            self._generator.manual_seed(seed)
        start = self.batch.draw_starts(1, self._generator)
        if options and (row := options.get("start")) is not None:
            rows = self.batch.rows
            if not rows.start <= row < rows.stop - 1:
                raise ValueError(f"start must be in [{rows.start}, {rows.stop - 1}), was {row}")
            start = torch.full_like(start, row)
        self.batch.reset(start, self.batch.settings.episode_sessions)
        self.agents = list(self.possible_agents)
        return self._observe(), {name: {} for name in self.agents}

    def step(
        self, actions: Mapping[str, FloatVector]
    ) -> tuple[
        dict[str, FloatVector],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Trade all live books one session on.

        Raises:
            ValueError: if a live agent's action is missing, misshapen, not of floating-point
                numbers or not finite, or if no agent is live.
        """
        live = self.agents
        if not live:
            raise ValueError("no agent is live: the episode has ended, or reset was never called")
        transition = self.batch.step(self._stack(actions))
        outcome = transition.outcome
        (truncated,) = transition.truncated.tolist()
        (reward,), (ruined,) = transition.reward.tolist(), transition.terminated.tolist()
        (nav,), (cost,) = outcome.nav_after.tolist(), outcome.cost.total.tolist()
        (turnover,) = outcome.turnover.tolist()
        index = {name: self._index[name] for name in live}

        observations = self._observe()
        rewards = {name: reward[a] for name, a in index.items()}
        terminations = {name: ruined[a] for name, a in index.items()}
        # Every live agent is truncated on the last bar, a ruined one too: with mixed flags RLlib's
        # wrapper never sets __all__ and the episode looks unfinished.
        truncations = dict.fromkeys(live, truncated)
        infos: dict[str, dict[str, Any]] = {
            name: {"nav": nav[a], "cost": cost[a], "turnover": turnover[a]}
            for name, a in index.items()
        }
        self.agents = [name for name in live if not (truncated or terminations[name])]
        return observations, rewards, terminations, truncations, infos

    def _stack(self, actions: Mapping[str, FloatVector]) -> torch.Tensor:
        """Return the (1, A, N + 1) actions; a ruined agent stays in cash whatever stands there."""
        width = self.batch.market.n_assets + 1
        stacked = np.zeros((1, len(self.possible_agents), width))
        for name in self.agents:
            if name not in actions:
                raise ValueError(f"the action of agent {name} is missing")
            action = np.asarray(actions[name])
            if action.shape != (width,) or action.dtype.kind != "f":
                raise _bad_action(name, width, action)
            stacked[0, self._index[name]] = action
        if not np.isfinite(stacked).all():
            name = next(name for name in self.agents if not np.isfinite(actions[name]).all())
            raise _bad_action(name, width, np.asarray(actions[name]))
        return torch.from_numpy(stacked).to(self.batch.market.device)

    def _observe(self) -> dict[str, FloatVector]:
        """Return the flat observation of every live agent."""
        seen, market = self.batch.observe(), self.batch.market
        row = int(seen.t)
        today = slice(row, row + 1)  # a view; an index of one would copy
        blocks = Blocks(
            market.asset_features[today],
            market.market_features[today],
            market.investable[today],
            seen.asset,
            seen.book,
        )
        table = self.spec.flat(blocks)[0].cpu().numpy()
        return {name: table[self._index[name]] for name in self.agents}


def _bad_action(name: str, width: int, action: NDArray[Any]) -> ValueError:
    return ValueError(
        f"the action of agent {name} must be {width} finite floating-point numbers, "
        f"was {action.dtype} {action}"
    )
