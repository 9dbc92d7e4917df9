"""What is planted is found, what is not there is left alone: in markets whose truth is known."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch

from agents.networks import PolicyNetwork
from envs.batch import BatchEnv
from evaluation.backtest import AgentsResult
from market.build import build
from market.dataset import Dataset
from market.sources.synthetic import planted_drift
from risk import measures
from training.algorithm import Trainer
from training.configuration import Configuration
from training.selection import decide, inner_windows, validate
from training.settings import RankerSettings
from training.society import Society
from training.train import make_society
from training.warm_start import warm_start

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_here")]

DAYS = 252
SEED = 5


@dataclass(frozen=True)
class World:
    """One market, its society, and what is true of it."""

    data: Dataset
    society: Society
    drift: torch.Tensor  # (T, N)

    def play(self, networks: dict[str, PolicyNetwork] | None) -> AgentsResult:
        rule = dict.fromkeys(self.society.policies)
        return validate(self.data.bars, self.society, self.data.test, networks or rule)

    def earned(self, result: AgentsResult) -> dict[str, float]:
        """Return each agent's beta-hedged net return, a fraction a year."""
        return {m.name: self.hedged(result.books[m.name][0].nav) for m in self.society.mandates}

    def hedged(self, nav: Any) -> float:
        reference = self.society.market.reference_return[self.data.test].numpy()[1:]
        returns = nav[1:] / nav[:-1] - 1.0
        active = returns - measures.beta(returns, reference) * reference
        return float(active.mean()) * DAYS

    def oracle(self, score: torch.Tensor) -> dict[str, float]:
        """Return what the agents earn who know (T, N) scores, at their rule's exposure."""
        env: BatchEnv = self.society.env(self.data.test)
        env.reset(torch.tensor([self.data.test.start]))
        agents = len(self.society.mandates)
        nav = [torch.full((agents,), env.settings.capital, dtype=torch.float64)]
        for row in range(self.data.test.start, self.data.test.stop - 1):
            action = torch.zeros(1, agents, score.shape[1] + 1, dtype=torch.float64)
            action[..., :-1] = score[row]
            nav.append(env.step(action).outcome.nav_after[0])
        paths = torch.stack(nav).numpy()
        return {m.name: self.hedged(paths[:, a]) for a, m in enumerate(self.society.mandates)}


@cache
def world(compose: Callable[..., Any], name: str, agents: str) -> World:
    groups = compose(
        "market=synthetic",
        f"market.world={name}",
        "quality=refuse",
        "features=recipe",
        "env=default",
        f"agents={agents}",
        "network=small",
        "network.members=2",
        "pretrain=ranker",
        "algorithm=none",
        "selection=inner",
        "ensemble=fixed",
        "tracking=none",
    )
    config = Configuration(**groups, seed=SEED)
    data = build(config.market, config.quality, config.features)
    return World(data, make_society(data, config), torch.tensor(planted_drift(config.market)))


@pytest.fixture
def ranker(settings: Callable[..., Any]) -> RankerSettings:
    chosen: RankerSettings = settings("pretrain", "ranker")
    return chosen


def warmed(society: Society, rows: slice, ranker: RankerSettings) -> dict[str, PolicyNetwork]:
    networks = society.new_networks(SEED)
    warm_start(networks, society.market, rows, ranker, SEED)
    return networks


def standardised(drift: torch.Tensor) -> torch.Tensor:
    centred = drift - drift.mean(1, keepdim=True)
    return (centred / centred.std(1, keepdim=True)).clamp(-1.0, 1.0)


def best_name(drift: torch.Tensor) -> torch.Tensor:
    """Return scores that put the whole weight on the name with the highest drift."""
    return 2.0 * torch.nn.functional.one_hot(drift.argmax(1), drift.shape[1]) - 1.0


def assert_half_of_the_oracle(
    here: World, networks: dict[str, PolicyNetwork], score: torch.Tensor
) -> None:
    rule, oracle = here.earned(here.play(None)), here.oracle(score)
    found = here.earned(here.play(networks))
    for name, best in oracle.items():
        assert best > rule[name] + 0.01  # there is something to find
        assert found[name] - rule[name] >= 0.5 * (best - rule[name]), (name, found, oracle)


def test_every_mandate_earns_half_of_what_its_oracle_does(
    compose: Callable[..., Any], settings: Callable[..., Any], ranker: RankerSettings
) -> None:
    here = world(compose, "planted_alpha", "three")
    networks = warmed(here.society, here.data.train, ranker)
    assert_half_of_the_oracle(here, networks, standardised(here.drift))

    ppo = settings("algorithm", "ppo", replicas=8)
    trainer = Trainer(here.society, networks, here.data.train, ppo, SEED)
    for _ in range(6):
        trainer.iterate()
    refined = trainer.networks()
    trainer.stop()
    assert_half_of_the_oracle(here, refined, standardised(here.drift))


def test_the_free_agent_earns_half_of_holding_the_best_name(
    compose: Callable[..., Any], ranker: RankerSettings
) -> None:
    here = world(compose, "planted_alpha", "free")
    networks = warmed(here.society, here.data.train, ranker)
    assert_half_of_the_oracle(here, networks, best_name(here.drift))


def test_reinforcement_alone_learns_too(
    compose: Callable[..., Any], settings: Callable[..., Any]
) -> None:
    here = world(compose, "planted_alpha", "free")
    ppo = settings("algorithm", "ppo", learning_rate=1e-3, replicas=16)
    start = here.society.new_networks(SEED)
    trainer = Trainer(here.society, start, here.data.train, ppo, SEED)
    for _ in range(8):
        trainer.iterate()
    learned = trainer.networks()
    trainer.stop()
    rule = {"free": "rule"}
    decision = decide(
        here.society, here.data.test, "rl", here.play(learned), here.play(None), rule, 3.0
    )["free"]
    assert decision.kept, str(decision)
    untrained = here.earned(here.play(start))["free"]
    assert here.earned(here.play(learned))["free"] > untrained + 0.05


def test_where_nothing_is_to_be_found_nothing_is_traded_for(
    compose: Callable[..., Any], ranker: RankerSettings
) -> None:
    here = world(compose, "zero_alpha", "three")
    selection = compose("selection=inner")["selection"]
    inner, rows = inner_windows(here.data.train, selection)
    society, rule = here.society, dict.fromkeys(here.society.policies)
    decisions = decide(
        society,
        rows,
        "warm_start",
        validate(here.data.bars, society, rows, warmed(society, inner, ranker)),
        validate(here.data.bars, society, rows, rule),
        dict.fromkeys(society.policies, "rule"),
        ranker.keep_if,
    )
    final = warmed(society, here.data.train, ranker)
    chosen = {p: final[p] if decision.kept else None for p, decision in decisions.items()}
    played, at_rule = here.play(chosen), here.play(None)
    differences = decide(
        society, here.data.test, "chosen", played, at_rule, dict.fromkeys(rule, "rule"), 2.0
    )
    for mandate in society.mandates:
        ours, theirs = (r.books[mandate.name][0].turnover.mean() * DAYS for r in (played, at_rule))
        assert ours <= theirs + 0.5
        difference = differences[mandate.policy]
        assert not abs(difference.excess) > 2.0 * difference.standard_error
