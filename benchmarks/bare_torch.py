"""A bare PPO loop of our training's arithmetic: the bound that its path through RLlib can reach.

Same environments, networks, exploration, advantages, losses, minibatches and seeds as `training`,
whose functions it calls; what it leaves out is RLlib: its learner, its batches, its metrics and the
handing of weights from the learner to the sampler.
"""

import math
from collections.abc import Callable

import torch

from benchmarks.measure import Result, interleaved
from training import columns
from training.loss import LossWeights, SocietyLoss, mean_actions, minibatches
from training.rollout import Columns, Rollout
from training.seeds import generator_of
from training.settings import RLSettings
from training.society import Society


def run(society: Society, rows: slice, settings: RLSettings, seed: int, repeats: int) -> Result:
    """Time sampling, learning and both together, in turn.

    Args:
        society: who learns, with its market on the device to use.
        rows: sessions that may be learned from.
        settings: of the algorithm.
        seed: of networks and exploration.
        repeats: timed runs of each.
    """
    loop = BareLoop(society, rows, settings, seed)
    batches = loop.sample()
    works: dict[str, Callable[[], object]] = {
        "iteration": loop.iterate,
        "sampling": loop.sample,
        "learning": lambda: loop.learn(batches),
    }
    times = interleaved(works, repeats)
    rates = {name: loop.agent_steps / timing.median for name, timing in times.items()}
    figures: dict[str, object] = {
        "agent_steps_per_s": round(rates["iteration"]),
        "sample_per_s": round(rates["sampling"]),
        "learn_per_s": round(rates["learning"]),
        "agent_steps_per_s_low": round(loop.agent_steps / times["iteration"].high),
        "agent_steps_per_s_high": round(loop.agent_steps / times["iteration"].low),
        "agents": len(society.mandates),
        "assets": society.market.n_assets,
        "environments": settings.starts * settings.replicas,
        "agent_steps": loop.agent_steps,
        "epochs": settings.epochs,
        "minibatch_days": settings.minibatch_days,
        "repeats": repeats,
    }
    lines = tuple(
        (
            name,
            f"{rates[name]:,.0f}",
            f"{loop.agent_steps / timing.high:,.0f}",
            f"{loop.agent_steps / timing.low:,.0f}",
        )
        for name, timing in times.items()
    )
    head = ("bare torch loop", "agent steps/s", "slowest", "fastest")
    return Result("bare_torch", figures, head, lines)


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
            policy: torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
            for policy, network in self.networks.items()
        }
        self._version = 0  # of the networks
        self.agent_steps = 0  # of one iteration

    def iterate(self) -> int:
        """Sample and learn once; return the agent steps sampled."""
        self.learn(self.sample())
        return self.agent_steps

    @torch.no_grad()
    def sample(self) -> dict[str, Columns]:
        """Play one episode in every environment; return what is to be learned, by policy."""
        rollout = Rollout(self._society, self._env, self.networks, self._settings, self._generator)
        rollout.play()
        self.agent_steps = rollout.env_steps * self._env.n_agents
        return rollout.batches()

    def learn(self, batches: dict[str, Columns]) -> None:
        """Take all steps on one batch."""
        settings = self._settings
        self._version += 1
        rows = len(next(iter(batches.values()))[columns.DAY])
        generator = generator_of(self._seed, "learner", self._version)
        for index in minibatches(rows, settings.minibatch_days, settings.epochs, generator):
            here = index.to(self._society.market.device)
            self._update(
                {
                    policy: {name: column.index_select(0, here) for name, column in batch.items()}
                    for policy, batch in batches.items()
                }
            )

    def _generator(self, *path: str) -> torch.Generator:
        return generator_of(self._seed, "runner", 0, self._version, *path)

    def _update(self, batches: dict[str, Columns]) -> None:
        """Take one step of every policy on its part of a minibatch."""
        market, losses = self._society.market, []
        for policy, batch in batches.items():
            network = self.networks[policy]
            network.zero_grad(set_to_none=True)
            mean = mean_actions(network, market, batch, self._settings.bfloat16)
            losses.append(self._loss(policy, network, mean, batch, self._weights).total)
        torch.autograd.backward(losses)
        for policy, optimiser in self._optimisers.items():
            parameters = self.networks[policy].parameters()
            torch.nn.utils.clip_grad_norm_(parameters, self._settings.grad_clip)
            optimiser.step()
