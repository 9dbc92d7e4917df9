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
from market.load import MarketConfig, load_bars
from serving.allocation import answer
from serving.decisions import DecisionLog
from serving.local import LocalBackend
from serving.messages import parse, to_question
from serving.questions import Backend
from serving.settings import DeskSettings
from serving.sources import OwnSources
from training import columns
from training.configuration import Configuration
from training.loss import mean_actions
from training.train import make_society

AT_ONCE = 32  # questions
TEST_SHARE = 0.5  # of the sessions, at their end: some 4,000 days of the embedded data


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """What was asked for in T sessions.

    Args:
        agents: (T, A, N) by every agent.
        account: (T, N) by the account that they net to.
    """

    agents: FloatArray
    account: FloatArray


def run(config: Configuration, folder: Path | None, desk: DeskSettings) -> Result:
    """Compare both sides over a long window.

    Args:
        config: market and costs, and the agents where no artefact is given.
        folder: of the artefact; None is one of agents that learned nothing.
        desk: how the serving side answers.
    """
    market = _long_test(config)
    with TemporaryDirectory() as name:
        here = Path(name)
        if folder is None:
            folder = here / "artefact"
            data = build(market, config.quality, config.features)
            untrained.save(folder, make_society(data, config), data, config)
        trained = artefact.load(folder)
        data = build(market, config.quality, trained.manifest.features)
        ours = training_side(data, trained, config.env, market.cash_rate)
        sessions = [str(day) for day in data.bars.dates[data.test][:-1]]
        backend = LocalBackend(
            OwnSources(ArtefactPolicy(str(folder)), None, market, config.quality),
            desk,
            config.env,
            market.exchange,
            market.cash_rate,
        )
        agents = [mandate.name for mandate in trained.manifest.mandates]
        asked = serving_side(backend, here / "decisions", sessions, agents, data.bars.symbols)
        theirs = asyncio.run(asked)
    return compared(ours, theirs, agents, sessions)


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
        symbols: in order.
    """
    decisions = DecisionLog(log)

    async def asked(session: str) -> dict[str, Any]:
        request = parse(json.dumps({"as_of": session}).encode())
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


def compared(
    ours: Weights, theirs: Weights, agents: Sequence[str], sessions: Sequence[str]
) -> Result:
    """Return the largest differences, over all and by agent."""
    apart = np.abs(ours.agents - theirs.agents).max(axis=(0, 2))
    account = float(np.abs(ours.account - theirs.account).max())
    figures = {
        "max_abs_diff": float(np.maximum(apart.max(), account)),  # Python's would lose a NaN
        "states": len(sessions) * len(agents),
        "sessions": len(sessions),
        "first": sessions[0],
        "last": sessions[-1],
        "agents": len(agents),
        "assets": ours.account.shape[-1],
        "account_max_abs_diff": account,
    }
    moved = np.abs(np.diff(ours.agents, axis=0)).sum(-1).mean(0)
    rows = tuple(
        (name, f"{len(sessions)}", f"{difference:.1e}", f"{change:.2%}")
        for name, difference, change in zip(agents, apart, moved, strict=True)
    )
    columns_ = ("agent", "states", "largest difference", "change a session, L1")
    return Result("parity", figures, columns_, rows)


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


def _long_test(config: Configuration) -> MarketConfig:
    """Return the market with a test window of its last half: parity needs sessions, not truth."""
    dates = load_bars(config.market, config.quality).dates
    cut = int(len(dates) * (1.0 - TEST_SHARE))
    opens = min(cut + 1 + config.market.embargo, len(dates) - 2)
    return replace(
        config.market,
        train=[str(dates[0]), str(dates[cut])],
        test=[str(dates[opens]), str(dates[-1])],
    )
