"""Sampling: a batched environment played by exploring policies into preallocated tensors.

G starts x R replicas are stepped at once, with one forward pass per policy and session. All
replicas of a start live through the same days and differ by their actions alone; their mean
advantage on a day is the baseline that takes the market's noise, common to them, out of the
gradient.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from agents.market_tensors import MarketTensors
from agents.networks import PolicyNetwork, pool
from agents.observation import BOOK_ASSET_FEATURES, BOOK_FEATURES
from envs.batch import BatchEnv
from training import columns
from training.settings import RLSettings
from training.society import Society, encodings

SMALLEST_DEVIATION = 1e-8

Columns = dict[str, Tensor]


class Rollout:
    """One episode of every environment, written into preallocated tensors.

    Leading axes are L sessions, G starts, R replicas, A agents.
    """

    def __init__(
        self,
        society: Society,
        env: BatchEnv,
        networks: Mapping[str, PolicyNetwork],
        settings: RLSettings,
        generator: Callable[..., torch.Generator],
    ) -> None:
        """Open all books.

        Args:
            society: who plays whom.
            env: of that society.
            networks: by policy.
            settings: starts, replicas, discounts.
            generator: gives each path of names a stream; asked for "starts" and each agent.
        """
        self.society, self.env = society, env
        self._networks, self._settings, self._generator = networks, settings, generator
        rows = env.rows
        length = min(env.settings.episode_sessions, rows.stop - 1 - rows.start)
        market, self.sessions = env.market, int(length)
        self.starts, self.replicas = settings.starts, settings.replicas
        self.n_envs = self.starts * self.replicas
        first = env.draw_starts(self.starts, generator("starts"))
        env.reset(first.repeat_interleave(self.replicas), length)
        self.days = first + torch.arange(length, device=market.device).unsqueeze(1)  # (L, G)
        self.encodings = {
            policy: encodings(network, market, first, length)
            for policy, network in networks.items()
        }
        books = (length, self.starts, self.replicas, env.n_agents)
        assets = market.n_assets

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=market.device)

        # One row more than there are actions: what is seen after the last one gives its value.
        self.book_asset = empty(length + 1, *books[1:], assets, BOOK_ASSET_FEATURES)
        self.book = empty(length + 1, *books[1:], BOOK_FEATURES)
        self.action = empty(*books, assets + 1)
        self.normal = self._standard_normal()
        self.logp = empty(*books, assets + 1)
        self.rewards = empty(*books)
        self.alive = empty(length + 1, *books[1:], dtype=torch.bool)
        self._observe(0)

    @property
    def env_steps(self) -> int:
        """Return the sessions played, summed over the environments."""
        return self.sessions * self.n_envs

    def play(self) -> None:
        """Play all environments to the end of their episode."""
        for step in range(self.sessions):
            self._step(step)

    def _step(self, step: int) -> None:
        investable = self.env.market.investable[self.days[step]][:, None, None]  # (G, 1, 1, N)
        normal, action = self.normal[step], self.action[step]
        for policy, agents in self.society.policies.items():
            network = self._networks[policy]
            asset, book = self.book_asset[step][:, :, agents], self.book[step][:, :, agents]
            mean = network.act(next(self.encodings[policy])[:, None, None], asset, book, investable)
            log_std = log_deviations(network.log_std, self.env.market.n_assets)
            drawn = mean + normal[:, :, agents] * log_std.exp()
            action[:, :, agents] = drawn
            self.logp[step][:, :, agents] = log_density(drawn, mean, log_std)
        transition = self.env.step(action.flatten(0, 1))
        self.rewards[step] = transition.reward.view_as(self.rewards[step])
        self._observe(step + 1)

    def batches(self) -> dict[str, Columns]:
        """Return the rollout by policy, one row per session and start."""
        return {
            policy: self._batch(policy, agents) for policy, agents in self.society.policies.items()
        }

    def _standard_normal(self) -> Tensor:
        """Draw (L, G, R, A, N + 1), each agent from its own stream: it explores alike alone."""
        length, *books, _, actions = self.action.shape
        drawn = [
            torch.randn(length, *books, actions, generator=self._generator("agent", mandate.name))
            for mandate in self.env.mandates
        ]
        return torch.stack(drawn, -2).to(self.action.device)

    def _observe(self, step: int) -> None:
        seen = self.env.observe()
        self.book_asset[step] = seen.asset.view_as(self.book_asset[step])
        self.book[step] = seen.book.view_as(self.book[step])
        self.alive[step] = self.env.alive.view_as(self.alive[step])

    def _batch(self, policy: str, agents: list[int]) -> Columns:
        settings = self._settings
        day = torch.cat([self.days, self.days[-1:] + 1])  # (L + 1, G)
        book = self.book[..., agents, :].flatten(0, 1)
        value = book_values(self._networks[policy], self.env.market, day.flatten(), book)
        value = value.view_as(self.alive[..., agents])
        alive = self.alive[..., agents]
        advantage = generalised_advantage(
            self.rewards[..., agents] * settings.reward_scale,
            value,
            alive,
            settings.gamma,
            settings.gae_lambda,
        )
        rows = {
            columns.DAY: self.days,
            columns.BOOK_ASSET: self.book_asset[:-1][..., agents, :, :],
            columns.BOOK: self.book[:-1][..., agents, :],
            columns.ACTIONS: self.action[..., agents, :],
            columns.ACTION_LOGP: self.logp[..., agents, :],
            columns.ADVANTAGES: standardise(advantage, alive[:-1]),
            columns.VALUE_TARGETS: advantage + value[:-1],
            columns.ALIVE: alive[:-1],
        }
        return {name: column.flatten(0, 1) for name, column in rows.items()}


def generalised_advantage(
    reward: Tensor, value: Tensor, alive: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """Return the advantages (L, ...) of one episode each; 0 where the book was ruined before.

    Args:
        reward: (L, ...).
        value: (L + 1, ...) of what is seen before each action, and after the last: the episode is
            cut there, it does not end.
        alive: (L + 1, ...) bool; ruin ends an episode for good, so nothing follows it.
        gamma: discount.
        gae_lambda: weight of longer returns.

    Source:
        Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage
        Estimation", ICLR 2016, equation 16.
    """
    follows = alive[1:].to(reward.dtype)
    error = (reward + gamma * value[1:] * follows - value[:-1]) * alive[:-1]
    advantage = torch.empty_like(error)
    later = torch.zeros_like(error[0])
    for step in range(len(error) - 1, -1, -1):
        later = error[step] + gamma * gae_lambda * follows[step] * later
        advantage[step] = later
    return advantage


def standardise(advantage: Tensor, alive: Tensor) -> Tensor:
    """Return advantages less their mean over the replicas, at standard deviation 1 per agent.

    Args:
        advantage: (L, G, R, P).
        alive: (L, G, R, P) bool; others count for nothing and become 0.
    """
    weight = alive.to(advantage.dtype)
    living = weight.sum(2, keepdim=True).clamp(min=1.0)
    centred = (advantage - (advantage * weight).sum(2, keepdim=True) / living) * weight
    variance = centred.square().sum((0, 1, 2)) / weight.sum((0, 1, 2)).clamp(min=1.0)
    return centred / variance.sqrt().clamp(min=SMALLEST_DEVIATION)


def log_deviations(log_std: Tensor, n_assets: int) -> Tensor:
    """Return the (N + 1,) log deviations of the exploration noise from the network's two."""
    return torch.cat([log_std[:1].expand(n_assets), log_std[1:]])


def log_density(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log density (..., N + 1) of each action component, up to a constant."""
    return -0.5 * ((action - mean) / log_std.exp()).square() - log_std


def book_values(network: PolicyNetwork, market: MarketTensors, day: Tensor, book: Tensor) -> Tensor:
    """Return the values (D, R, P), in scaled reward, of books (D, R, P, K) on days (D,)."""
    features = market.asset_features[day]
    pooled = pool(features, market.investable[day].to(features.dtype).unsqueeze(-1))
    return network.value(pooled.unsqueeze(1), market.market_features[day][:, None, None], book)
