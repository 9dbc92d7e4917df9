"""Served weights beside those of the training side, over the same sessions of the same agents.

The training side plays the PettingZoo environment: what an agent sees comes out of its observation
vector, and what it does is what the forward pass of its RLlib module computes. The serving side
answers one question a session, and its JSON is parsed back. Each builds its own market.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents import artefact
from agents.artefact import Artefact
from agents.market_tensors import MarketTensors
from agents.networks import PolicyNetwork, centred, equal_shares
from agents.observation import ObservationSpec
from agents.policies import ArtefactPolicy
from benchmarks import untrained
from benchmarks.measure import Result
from envs.batch import BatchEnv, EnvSettings, Transition
from envs.market_env import FloatVector, MarketEnv
from evaluation.netting import netting
from market.bars import FloatArray
from market.build import build
from market.dataset import Dataset
from serving.allocation import answer
from serving.decisions import DecisionLog
from serving.local import LocalBackend
from serving.messages import parse, to_question
from serving.questions import Backend
from serving.settings import DeskSettings
from serving.sources import OwnSources, narrowed
from training import columns
from training.configuration import Configuration
from training.loss import mean_actions
from training.train import make_society

AT_ONCE = 32  # questions
STATES = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """What was asked for in T sessions.

    Args:
        agents: (T, A, N) by every agent.
        account: (T, N) by the account that they net to.
    """

    agents: FloatArray
    account: FloatArray


def run(
    config: Configuration, folder: Path | None, desk: DeskSettings, states: int = STATES
) -> Result:
    """Compare both sides over the test window, in as many universes as give that many states.

    Args:
        config: market and costs, and the agents where no artefact is given.
        folder: of the artefact; None is one of agents that learned nothing.
        desk: how the serving side answers.
        states: of an agent in a session, at least.
    """
    pairs: list[tuple[Weights, Weights]] = []
    with TemporaryDirectory() as name:
        here = Path(name)
        if folder is None:
            folder = here / "artefact"
            data = build(config.market, config.quality, config.features)
            untrained.save(folder, make_society(data, config), data, config)
        trained, found = artefact.load(folder), 0
        sources = OwnSources(ArtefactPolicy(str(folder)), None, config.market, config.quality)
        backend = LocalBackend(
            sources, desk, config.env, config.market.exchange, config.market.cash_rate
        )
        agents = [mandate.name for mandate in trained.manifest.mandates]
        while found < states:
            data = _market(config, trained, len(pairs))
            ours = training_side(data, trained, config.env, config.market.cash_rate)
            sessions = [str(day) for day in data.bars.dates[data.test][:-1]]
            asked = serving_side(backend, here / "log", sessions, agents, data.bars.symbols)
            pairs.append((ours, asyncio.run(asked)))
            found += len(sessions) * len(agents)
    return compared(pairs, agents)


def training_side(
    data: Dataset, trained: Artefact, settings: EnvSettings, cash_rate: float
) -> Weights:
    """Return what the agents ask for in the PettingZoo environment over the test window.

    The last session has no weights: it has no next one to trade in.
    """
    manifest, market = trained.manifest, MarketTensors.build(data)
    whole = replace(settings, episode_sessions=data.test.stop - data.test.start - 1, compile=False)
    batch = _Recorder(market, manifest.mandates, whole, data.test, cash_rate)
    env = MarketEnv(batch, _layout(data))
    observations, _ = env.reset(options={"start": data.test.start})
    players = {m.name: trained.networks.get(m.policy) for m in manifest.mandates}
    with torch.inference_mode():
        while env.agents:
            row = int(batch.books.t)
            actions = {
                name: _action(players[name], market, row, env.spec, observations[name])
                for name in env.agents
            }
            observations, *_ = env.step(actions)
    targets = torch.cat(batch.targets).numpy()
    netted = netting(
        torch.cat(batch.navs).numpy(),
        targets,
        torch.cat(batch.ordered).numpy(),
        manifest.ensemble,
        data.regime[data.test][:-1],
    )
    return Weights(targets, netted.weights)


async def serving_side(
    backend: Backend,
    log: Path,
    sessions: Sequence[str],
    agents: Sequence[str],
    symbols: Sequence[str],
) -> Weights:
    """Return what the service answers in each session, out of its JSON.

    Args:
        backend: answers.
        log: file of the decisions.
        sessions: ISO dates.
        agents: names, in order.
        symbols: in order; the universe.
    """
    decisions = DecisionLog(log)

    async def asked(session: str) -> dict[str, Any]:
        request = parse(json.dumps({"as_of": session, "universe": list(symbols)}).encode())
        recorded = await answer(decisions, request, await backend.opinion(to_question(request)))
        said: dict[str, Any] = json.loads(json.dumps(recorded.answer))
        return said

    answers: list[dict[str, Any]] = []
    try:
        for first in range(0, len(sessions), AT_ONCE):
            answers += await asyncio.gather(*map(asked, sessions[first : first + AT_ONCE]))
    finally:
        decisions.close()

    def vector(weights: Mapping[str, float]) -> list[float]:
        return [weights[symbol] for symbol in symbols]

    return Weights(
        np.array([[vector(said["agents"][a]["weights"]) for a in agents] for said in answers]),
        np.array([vector(said["weights"]) for said in answers]),
    )


def compared(pairs: Sequence[tuple[Weights, Weights]], agents: Sequence[str]) -> Result:
    """Return the largest differences, over all and by agent.

    Args:
        pairs: the training side's weights and the serving side's, of each universe.
        agents: names, in order.
    """
    by_agent = np.max(
        [np.abs(ours.agents - theirs.agents).max(axis=(0, 2)) for ours, theirs in pairs], axis=0
    )
    account = np.max([np.abs(ours.account - theirs.account).max() for ours, theirs in pairs])
    # How far weights move by themselves from one session to the next, to judge a difference by.
    moved = np.mean(
        [np.abs(np.diff(ours.agents, axis=0)).sum(-1).mean(0) for ours, _ in pairs], axis=0
    )
    sessions = sum(len(ours.account) for ours, _ in pairs)
    figures = {
        "max_abs_diff": float(np.maximum(by_agent.max(), account)),  # Python's would lose a NaN
        "states": sessions * len(agents),
        "agents": len(agents),
        "universes": len(pairs),
        "assets": pairs[0][0].account.shape[-1],
        "account_max_abs_diff": float(account),
    }
    rows = tuple(
        (name, str(sessions), f"{difference:.1e}", f"{change:.2%}")
        for name, difference, change in zip(agents, by_agent, moved, strict=True)
    )
    heads = ("agent", "states", "largest difference", "change a session, L1")
    return Result("parity", figures, heads, rows)


class _Recorder(BatchEnv):
    """An environment that keeps what was asked for, (1, A, N) a step, and the books before it."""

    def reset(self, start: Tensor, sessions: int | None = None) -> None:
        """Open the books with nothing on record."""
        super().reset(start, sessions)
        self.targets: list[Tensor] = []
        self.ordered: list[Tensor] = []
        self.navs: list[Tensor] = []

    def step(self, action: Tensor) -> Transition:
        """Take a step, and keep its target."""
        held = self.held
        transition = super().step(action)
        self.targets.append(transition.target)
        self.ordered.append((transition.target != held).any(-1))
        self.navs.append(transition.outcome.nav_before)
        return transition


def _action(
    network: PolicyNetwork | None,
    market: MarketTensors,
    row: int,
    layout: ObservationSpec,
    observation: FloatVector,
) -> FloatVector:
    """Return the mean action (N + 1,) that an RLlib module has for one observation vector."""
    seen = layout.split(torch.from_numpy(observation))
    rest = torch.zeros(1, 1, 1, layout.n_assets + 1)
    if network is None:
        return rest.flatten().numpy()
    position = centred(seen.book_asset.mT, equal_shares(seen.investable))  # (B, N)
    batch = {
        columns.DAY: torch.tensor([row]),
        columns.BOOK_ASSET: position[None, :, None, None],
        columns.BOOK: seen.book[None, None, None],
        columns.ACTIONS: rest,  # for its shape
    }
    action: FloatVector = mean_actions(network, market, batch, bfloat16=False).flatten().numpy()
    return action


def _layout(data: Dataset) -> ObservationSpec:
    return ObservationSpec(
        n_assets=len(data.bars.symbols),
        asset_features=data.asset_features.shape[-1],
        market_features=data.market_features.shape[-1],
        clip=data.features.clip,
    )


def _market(config: Configuration, trained: Artefact, number: int) -> Dataset:
    """Return the market of the first universe, which has all names, or of a later one.

    Those are without every second name, without every third, and so on: other numbers of names,
    and other equal weights, volatilities and ranks across them.
    """
    every = build(config.market, config.quality, trained.manifest.features)
    if number == 0:
        return every
    names = [symbol for n, symbol in enumerate(every.bars.symbols) if n % (number + 1)]
    market = narrowed(config.market, tuple(names))
    return build(market, config.quality, trained.manifest.features)
