"""A bare PPO loop of our training's arithmetic: the bound that its path through RLlib can reach.

Same environments, networks, exploration, advantages, losses, minibatches and seeds as `training`,
whose functions it calls; what it leaves out is RLlib: its learner, its batches, its metrics and the
handing of weights from the learner to the sampler.
"""

import math

import torch

from training import columns
from training.loss import LossWeights, SocietyLoss, mean_actions, minibatches
from training.rollout import Columns, Rollout
from training.seeds import generator_of
from training.settings import RLSettings
from training.society import Society


class BareLoop:
    """Sample one episode of every environment and learn from it, iteration by iteration.

    Args:
        society: market, mandates and network shape, with its market on the device to use.
        rows: sessions that may be learned from.
        settings: of the algorithm.
        seed: of this pass.
    """

    def __init__(self, society: Society, rows: slice, settings: RLSettings, seed: int) -> None:
        self._society, self._settings, self._seed = society, settings, seed
        self._env = society.env(rows)
        self.networks = society.new_networks(seed)
        noise = torch.tensor([settings.score_noise, settings.exposure_noise])
        for network in self.networks.values():
            network.log_std.data.copy_(noise.log())
            network.to(society.market.device)
        self._loss = SocietyLoss(society)
        clip = math.inf if settings.clip is None else settings.clip
        self._weights = LossWeights(clip, settings.value_weight, settings.anchor)
        self._optimisers = {
            policy: torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
            for policy, network in self.networks.items()
        }
        self._version = 0  # of the networks

    def iterate(self) -> int:
        """Sample and learn once; return the agent steps sampled."""
        rollout, batches = self._sample()
        self._learn(batches)
        return rollout.env_steps * self._env.n_agents

    @torch.no_grad()
    def _sample(self) -> tuple[Rollout, dict[str, Columns]]:
        """Play one episode in every environment; return it and what is to be learned from it."""
        rollout = Rollout(self._society, self._env, self.networks, self._settings, self._generator)
        rollout.play()
        return rollout, rollout.batches()

    def _generator(self, *path: str) -> torch.Generator:
        return generator_of(self._seed, "runner", 0, self._version, *path)

    def _learn(self, batches: dict[str, Columns]) -> None:
        settings = self._settings
        self._version += 1
        rows = len(next(iter(batches.values()))[columns.DAY])
        generator = generator_of(self._seed, "learner", self._version)
        for index in minibatches(rows, settings.minibatch_days, settings.epochs, generator):
            here = index.to(self._society.market.device)
            self._update(
                {
                    policy: {name: column[here] for name, column in batch.items()}
                    for policy, batch in batches.items()
                }
            )

    def _update(self, batches: dict[str, Columns]) -> None:
        """Take one step of every policy on its part of a minibatch."""
        market, losses = self._society.market, []
        for policy, batch in batches.items():
            network = self.networks[policy]
            network.zero_grad(set_to_none=True)
            mean = mean_actions(network, market, batch)
            losses.append(self._loss(policy, network, mean, batch, self._weights).total)
        torch.autograd.backward(losses)
        for policy, optimiser in self._optimisers.items():
            parameters = self.networks[policy].parameters()
            torch.nn.utils.clip_grad_norm_(parameters, self._settings.grad_clip)
            optimiser.step()
