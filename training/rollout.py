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
from agents.networks import (
    BookWeights,
    DayPart,
    PolicyNetwork,
    centred,
    equal_shares,
    mean_actions,
    pool,
)
from agents.observation import BOOK_ASSET_FEATURES, BOOK_FEATURES
from envs.batch import BatchEnv
from training import columns
from training.settings import RLSettings
from training.society import Society, day_parts

SMALLEST_DEVIATION = 1e-8

Columns = dict[str, Tensor]


class Rollout:
    """One episode of every environment, written into preallocated tensors.

    Axes are L sessions, G starts, R replicas, A agents. The agents come first in memory: all
    policies act in one batched product, and what one of them learns from lies together.
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
        rows, market = env.rows, env.market
        length = int(min(env.settings.episode_sessions, rows.stop - 1 - rows.start))
        self.sessions, self.starts, self.replicas = length, settings.starts, settings.replicas
        self.n_envs = self.starts * self.replicas
        first = env.draw_starts(self.starts, generator("starts"))
        env.reset(first.repeat_interleave(self.replicas), length)
        self.days = first + torch.arange(length, device=market.device).unsqueeze(1)  # (L, G)

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=market.device)

        agents, assets, books = env.n_agents, market.n_assets, (self.starts, self.replicas)
        positions = (BOOK_ASSET_FEATURES, self.replicas, assets)
        self._positions = empty(agents, length, self.starts, *positions)
        self._action = empty(agents, length, *books, assets + 1)
        self._normal = self._standard_normal()
        # One row more than there are actions: what is seen after the last one gives its value.
        self._book = empty(agents, length + 1, *books, BOOK_FEATURES)
        self.rewards = empty(length, *books, agents)
        self.alive = empty(length + 1, *books, agents, dtype=torch.bool)

    @property
    def env_steps(self) -> int:
        """Return the sessions played, summed over the environments."""
        return self.sessions * self.n_envs

    @property
    def action(self) -> Tensor:
        """Return the actions (L, G, R, A, N + 1) as they were sent to the environments."""
        return self._action.movedim(0, 3)

    def play(self) -> None:
        """Play all environments to the end of their episode."""
        parts, weights, slots = self._players()
        deviations = self._log_deviations().exp()[:, None, None]
        investable = self.env.market.investable[self.days].to(torch.float32)  # (L, G, N)
        shares = equal_shares(investable)[:, :, None, None]
        for step, slot in enumerate(slots):
            positions, book = self._observe(step)
            positions = centred(positions, shares[step])
            day = DayPart(*(part.index_select(1, slot) for part in parts))
            mean = mean_actions(day, weights, positions, book, investable[step])
            self._positions[:, step] = positions
            action = torch.addcmul(mean, self._normal[:, step], deviations)  # (A, G, R, N + 1)
            self._action[:, step] = action
            transition = self.env.step(action.movedim(0, 2).flatten(0, 1).contiguous())
            self.rewards[step] = transition.reward.view_as(self.rewards[step])
        self._observe(self.sessions)

    def batches(self) -> dict[str, Columns]:
        """Return the rollout by policy, one row per session and start."""
        settings, policies = self._settings, self.society.policies
        value = torch.empty_like(self.alive, dtype=torch.float32)
        day = torch.cat([self.days, self.days[-1:] + 1]).flatten()
        for policy, agents in policies.items():
            books = _rows(self._book, agents, 3)
            found = book_values(self._networks[policy], self.env.market, day, books)
            value[..., agents] = found.view(*value.shape[:-1], -1)
        advantage = generalised_advantage(
            self.rewards * settings.reward_scale,
            value,
            self.alive,
            settings.gamma,
            settings.gae_lambda,
        )
        standard, target = standardise(advantage, self.alive[:-1]), advantage + value[:-1]
        logp = -0.5 * self._normal.square() - self._log_deviations()[:, None, None, None]
        return {
            policy: {
                columns.DAY: self.days.flatten(),
                columns.BOOK_ASSET: _rows(self._positions, agents, 4),
                columns.BOOK: _rows(self._book[:, :-1], agents, 3),
                columns.ACTIONS: _rows(self._action, agents, 3),
                columns.ACTION_LOGP: _rows(logp, agents, 3),
                columns.ADVANTAGES: standard[..., agents].flatten(0, 1),
                columns.VALUE_TARGETS: target[..., agents].flatten(0, 1),
                columns.ALIVE: self.alive[:-1][..., agents].flatten(0, 1),
            }
            for policy, agents in policies.items()
        }

    def _players(self) -> tuple[DayPart, BookWeights, Tensor]:
        """Return what each agent's network takes from the days, and applies to its books.

        Returns:
            (A, D, ...) of the D distinct days; (A, 1, ...); and (L, G) which of them each day is.
        """
        networks = [self._networks[policy] for policy in self.society.policies]
        parts, slots = day_parts(networks, self.env.market, self.days, self._settings.bfloat16)
        stacked = zip(*(network.book_weights for network in networks), strict=True)
        names = list(self.society.policies)
        mine = [names.index(mandate.policy) for mandate in self.env.mandates]
        return (
            DayPart(*(part[mine] for part in parts)),
            BookWeights(*(torch.stack(each)[mine].unsqueeze(1) for each in stacked)),
            slots,
        )

    def _observe(self, step: int) -> tuple[Tensor, Tensor]:
        """Return what is seen before a step: (A, G, B, R, N) positions and (A, G, R, K) books."""
        seen, books = self.env.observe(), (self.starts, self.replicas, self.env.n_agents)
        self.alive[step] = self.env.alive.view(books)
        book = seen.book.view(*books, -1).movedim(2, 0)
        self._book[:, step] = book
        positions = seen.asset.view(*books, *seen.asset.shape[2:]).permute(2, 0, 4, 1, 3)
        return positions.contiguous(), book

    def _standard_normal(self) -> Tensor:
        """Draw (A, L, G, R, N + 1), each agent from its own stream: it explores alike alone."""
        drawn = torch.empty_like(self._action)
        for agent, mandate in zip(drawn, self.env.mandates, strict=True):
            generator = self._generator("agent", mandate.name)
            agent.copy_(torch.randn(agent.shape, generator=generator))
        return drawn

    def _log_deviations(self) -> Tensor:
        """Return the (A, N + 1) log deviations of every agent's exploration."""
        return torch.stack(
            [
                log_deviations(self._networks[mandate.policy].log_std, self.env.market.n_assets)
                for mandate in self.env.mandates
            ]
        )


def _rows(values: Tensor, agents: list[int], axis: int) -> Tensor:
    """Return (L G, ...) the rows of some agents of (A, L, G, ...) values, agents moved to an axis.

    For a single agent that is no copy.
    """
    first, last = agents[0], agents[-1] + 1
    chosen = values[first:last] if len(agents) == last - first else values[agents]
    return chosen.movedim(0, axis).flatten(0, 1)


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
    carried = (gamma * gae_lambda * follows).unbind()
    advantage = [torch.zeros_like(error[0])]
    for step, surprise in reversed(list(enumerate(error.unbind()))):
        advantage.append(torch.addcmul(surprise, carried[step], advantage[-1]))
    return torch.stack(advantage[:0:-1])


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
    return -0.5 * ((action - mean) * (-log_std).exp()).square() - log_std


def book_values(network: PolicyNetwork, market: MarketTensors, day: Tensor, book: Tensor) -> Tensor:
    """Return the values (D, R, P), in scaled reward, of books (D, R, P, K) on days (D,)."""
    distinct, slot = torch.unique(day, return_inverse=True)
    features = market.asset_features.index_select(0, distinct)
    pooled = pool(features, market.investable[distinct].to(features.dtype).unsqueeze(-1))[slot]
    return network.value(pooled.unsqueeze(1), market.market_features[day][:, None, None], book)
