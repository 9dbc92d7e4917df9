"""One agent's view of the market as a Gymnasium environment; the others follow given policies."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.make import make_env
from envs.market_env import FloatVector, MarketEnv

Policy = Callable[[FloatVector], FloatVector]


class SingleAgentEnv(gymnasium.Env[FloatVector, FloatVector]):
    """The observation, action and reward of `MarketEnv` for one of its agents.

    Args:
        agent: the agent that acts; the first one where absent.
        others: observation -> action of the other agents; absent ones follow their mandate's rule.
        overrides: Hydra overrides of the environment, as for `make_env`.
        market: an environment to view instead of building one.

    Raises:
        ValueError: if an agent has no such name.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  # Gymnasium's form

    def __init__(
        self,
        agent: str | None = None,
        others: Mapping[str, Policy] | None = None,
        overrides: Sequence[str] = (),
        market: MarketEnv | None = None,
    ) -> None:
        self._market = make_env(*overrides) if market is None else market
        names = self._market.possible_agents
        self.agent = names[0] if agent is None else agent
        self._others = dict(others or {})
        for name in (self.agent, *self._others):
            if name not in names:
                raise ValueError(f"no agent is called {name}; there are {', '.join(names)}")
        self.render_mode = None
        self.observation_space = self._market.observation_space(self.agent)
        self.action_space = self._market.action_space(self.agent)
        self._seen: dict[str, FloatVector] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatVector, dict[str, Any]]:
        """Start an episode; see `MarketEnv.reset`."""
        super().reset(seed=seed)
        self._seen, infos = self._market.reset(seed, options)
        return self._seen[self.agent], infos[self.agent]

    def step(self, action: FloatVector) -> tuple[FloatVector, float, bool, bool, dict[str, Any]]:
        """Act for the viewed agent and let the others follow their policies."""
        rule = np.zeros(self.action_space.shape or (), dtype=np.float32)
        actions = {
            name: self._others[name](seen) if name in self._others else rule
            for name, seen in self._seen.items()
        }
        actions[self.agent] = action
        self._seen, rewards, ended, truncated, infos = self._market.step(actions)
        own = self.agent
        return self._seen[own], rewards[own], ended[own], truncated[own], infos[own]


# `gymnasium.make("envs.single_agent:tercet/Market-v0", agent=...)` imports this module first.
gymnasium.register(id="tercet/Market-v0", entry_point="envs.single_agent:SingleAgentEnv")
