"""The PettingZoo contract, and what its own tests are too weak to ask."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from pettingzoo.test import parallel_api_test, parallel_seed_test

import envs
from agents.mandates import BasePortfolio, ExposureRule, Mandate
from agents.market_tensors import MarketTensors
from envs.batch import BatchEnv, EnvSettings
from envs.costs import CostModel
from envs.market_env import MarketEnv
from market.errors import InputError

ROOT = Path(__file__).resolve().parents[2]

Build = Callable[..., MarketTensors]
MakeBatch = Callable[..., BatchEnv]
MakeSettings = Callable[..., EnvSettings]
Shell = Callable[[BatchEnv], MarketEnv]

Actions = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def small(random_market: Build, batch: MakeBatch, market_env: Shell) -> Callable[[], MarketEnv]:
    return lambda: market_env(batch(random_market(0)))


@pytest.fixture(scope="module")
def embedded() -> MarketEnv:
    return envs.make_env("env.episode_sessions=60")


def sampled(env: MarketEnv, random: np.random.Generator) -> Actions:
    """Return actions of the live agents, often at the ends of the space."""
    width = env.batch.market.n_assets + 1
    return {
        name: np.clip(random.normal(0.0, 1.5, width), -1.0, 1.0).astype(np.float32)
        for name in env.agents
    }


def episode(env: MarketEnv, seed: int, start: int | None = None) -> list[tuple[Any, ...]]:
    """Return everything that an episode of seeded actions shows, step by step."""
    random = np.random.default_rng(seed)
    seen: list[tuple[Any, ...]] = [env.reset(seed, None if start is None else {"start": start})]
    while env.agents:
        seen.append(env.step(sampled(env, random)))
    return seen


def same(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> bool:
    """Return whether two episodes are equal to their last bit."""
    try:
        np.testing.assert_equal(one, other)
    except AssertionError:
        return False
    return True


# --- PettingZoo's own tests ----------------------------------------------------------------------


def test_a_synthetic_market_passes_the_parallel_api_test(small: Callable[[], MarketEnv]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(small(), num_cycles=100)


def test_the_embedded_market_passes_the_parallel_api_test(embedded: MarketEnv) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(embedded, num_cycles=70)


def test_a_synthetic_market_passes_the_seed_test(small: Callable[[], MarketEnv]) -> None:
    parallel_seed_test(small, num_cycles=100)


def test_the_embedded_market_passes_the_seed_test(embedded: MarketEnv) -> None:
    parallel_seed_test(envs.make_env, num_cycles=60)


# --- spaces and seeds ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_every_observation_of_whole_episodes_lies_in_its_space(
    random_market: Build, batch: MakeBatch, market_env: Shell, seed: int
) -> None:
    env = market_env(batch(random_market(seed)))
    for observations, *_ in episode(env, seed, start=0):
        for name, observation in observations.items():
            assert env.observation_space(name).contains(observation)


def test_every_observation_of_an_embedded_episode_lies_in_its_space(embedded: MarketEnv) -> None:
    for start in (0, 300, 5000):
        for observations, *_ in episode(embedded, 1, start):
            for name, observation in observations.items():
                assert embedded.observation_space(name).contains(observation)


def test_the_same_seed_is_the_same_episode_and_another_is_another(
    small: Callable[[], MarketEnv],
) -> None:
    first, again = episode(small(), 7), episode(small(), 7)
    assert len(first) == 41
    assert same(first, again)
    random = np.random.default_rng(0)
    env = small()
    actions = {name: random.uniform(-1, 1, 7).astype(np.float32) for name in env.possible_agents}
    opened = []
    for seed in range(8):
        env.reset(seed)
        opened.append(env.step(actions)[4]["careful"]["nav"])
    assert len(set(opened)) > 5


def test_seed_zero_is_a_seed(small: Callable[[], MarketEnv]) -> None:
    assert same(episode(small(), 0), episode(small(), 0))


def test_later_resets_go_on_with_the_seeded_stream(small: Callable[[], MarketEnv]) -> None:
    def starts(env: MarketEnv) -> list[int]:
        env.reset(3)
        rows = [int(env.batch.books.t)]
        for _ in range(12):
            env.reset()
            rows.append(int(env.batch.books.t))
        return rows

    one, other = starts(small()), starts(small())
    assert one == other
    assert len(set(one)) > 5


def test_environments_do_not_touch_the_global_streams(small: Callable[[], MarketEnv]) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  # the very stream that must stay untouched
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    episode(small(), 5)
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002


@pytest.mark.parametrize("start", [0, 17, 118])
def test_a_start_can_be_named(small: Callable[[], MarketEnv], start: int) -> None:
    env = small()
    env.reset(1, {"start": start})
    assert env.batch.books.t.tolist() == [start]


@pytest.mark.parametrize("start", [-1, 119, 4000])
def test_a_start_outside_the_visited_rows_is_refused(
    small: Callable[[], MarketEnv], start: int
) -> None:
    with pytest.raises(ValueError, match=rf"start must be in \[0, 119\), was {start}"):
        small().reset(1, {"start": start})


# --- rewards, infos, ends ------------------------------------------------------------------------


def test_the_shell_adds_nothing_to_the_batch(
    random_market: Build, batch: MakeBatch, market_env: Shell
) -> None:
    env, plain = market_env(batch(random_market(3))), batch(random_market(3))
    random = np.random.default_rng(3)
    env.reset(3, {"start": 12})
    plain.reset(torch.tensor([12]), 40)
    while env.agents:
        actions = sampled(env, random)
        names = env.possible_agents
        _, rewards, terminated, truncated, infos = env.step(actions)
        step = plain.step(torch.from_numpy(np.stack([actions[name] for name in names]))[None])
        assert [rewards[name] for name in names] == step.reward[0].tolist()
        assert [terminated[name] for name in names] == step.terminated[0].tolist()
        assert {truncated[name] for name in names} == {bool(step.truncated[0])}
        assert [infos[name]["nav"] for name in names] == step.outcome.nav_after[0].tolist()
        assert [infos[name]["cost"] for name in names] == step.outcome.cost.total[0].tolist()
        assert [infos[name]["turnover"] for name in names] == step.outcome.turnover[0].tolist()
        worth = plain.books.cash + (
            plain.books.shares * plain.market.close[plain.books.t].unsqueeze(1)
        ).sum(-1)
        assert [infos[name]["nav"] for name in names] == worth[0].tolist()
    assert plain.books.t.item() == 52


def test_an_observation_is_that_of_the_close_and_of_the_agents_own_book(
    random_market: Build, batch: MakeBatch, market_env: Shell
) -> None:
    env, random = market_env(batch(random_market(3))), np.random.default_rng(3)
    observations, _ = env.reset(3, {"start": 12})
    for row in range(12, 30):
        market, seen = env.batch.market, env.batch.observe()
        for a, name in enumerate(env.possible_agents):
            blocks = env.spec.split(torch.from_numpy(observations[name]))
            assert torch.equal(blocks.asset_features, market.asset_features[row])
            assert torch.equal(blocks.market_features, market.market_features[row])
            assert torch.equal(blocks.investable.bool(), market.investable[row])
            assert torch.equal(blocks.book_asset, seen.asset[0, a])
            assert torch.equal(blocks.book, seen.book[0, a])
        observations = env.step(sampled(env, random))[0]


def falling_market(plain_market: Build, crash_at: int) -> MarketTensors:
    """Return two names of which the first loses 99 % at one session."""
    close = np.full((30, 2), 100.0)
    close[crash_at:, 0] = 1.0
    return plain_market(close)


@pytest.fixture
def crashing(
    plain_market: Build,
    batch: MakeBatch,
    settings: MakeSettings,
    mandate: Callable[..., Mandate],
    market_env: Shell,
) -> Callable[[int], MarketEnv]:
    """Return environments in which the bold agent is ruined at a chosen session of ten."""

    def build(crash_at: int) -> MarketEnv:
        free = CostModel(0.0, 0.0, 0.0, 0.0)
        bold = mandate("bold", exposure=ExposureRule.full, base=BasePortfolio.none, tilt=30.0)
        mandates = [bold, replace(bold, name="timid"), replace(bold, name="idle")]
        how = settings(free, episode_sessions=10)
        return market_env(batch(falling_market(plain_market, crash_at), mandates, how))

    return build


BOLD = {
    "bold": np.array([1.0, -1.0, 1.0], dtype=np.float32),
    "timid": np.array([-1.0, 1.0, 1.0], dtype=np.float32),
    "idle": np.array([0.0, 0.0, -1.0], dtype=np.float32),
}


def test_a_ruined_agent_leaves_and_the_others_go_on(crashing: Callable[[int], MarketEnv]) -> None:
    env = crashing(4)
    env.reset(0, {"start": 0})
    for session in range(1, 11):
        before = list(env.agents)
        results = env.step({name: BOLD[name] for name in env.agents})
        assert all(list(result) == before for result in results)
        _, _, terminated, truncated, infos = results
        assert terminated.get("bold", False) is (session == 4)
        assert not any(terminated[name] for name in env.agents)
        assert set(truncated.values()) == {session == 10}
        if session == 4:
            assert infos["bold"]["nav"] == pytest.approx(1e3, rel=0.01)
        if session < 10:
            assert env.agents == (["bold", "timid", "idle"] if session < 4 else ["timid", "idle"])
    assert env.agents == []
    env.reset(0)
    assert env.agents == ["bold", "timid", "idle"]


def test_on_the_last_bar_a_ruined_agent_is_truncated_like_all_others(
    crashing: Callable[[int], MarketEnv],
) -> None:
    env = crashing(10)
    env.reset(0, {"start": 0})
    for _ in range(10):
        _, _, terminated, truncated, _ = env.step(BOLD)
    assert terminated == {"bold": True, "timid": False, "idle": False}
    assert truncated == {"bold": True, "timid": True, "idle": True}
    assert env.agents == []


def test_the_data_end_an_episode_that_is_longer_than_they_are(
    small: Callable[[], MarketEnv],
) -> None:
    steps = episode(small(), 1, start=100)[1:]
    assert len(steps) == 19
    assert [set(step[3].values()) for step in steps] == [{False}] * 18 + [{True}]


def test_a_finished_or_unopened_episode_cannot_be_stepped(small: Callable[[], MarketEnv]) -> None:
    env = small()
    with pytest.raises(ValueError, match="no agent is live"):
        env.step({})
    episode(env, 1)
    with pytest.raises(ValueError, match="no agent is live"):
        env.step({})


# --- bad actions ---------------------------------------------------------------------------------

GOOD = np.zeros(7, dtype=np.float32)


@pytest.mark.parametrize(
    "action",
    [
        np.full(7, np.nan, dtype=np.float32),
        np.array([0.0, 0.0, 0.0, np.inf, 0.0, 0.0, 0.0]),
        np.zeros(6, dtype=np.float32),
        np.zeros((1, 7), dtype=np.float32),
        np.float32(0.5),
        np.zeros(7, dtype=np.int64),
        np.zeros(7, dtype=bool),
        np.array(["0"] * 7),
        None,
    ],
    ids=["nan", "inf", "short", "nested", "scalar", "integer", "bool", "text", "none"],
)
def test_a_bad_action_is_refused_by_the_agents_name(
    small: Callable[[], MarketEnv], action: Any
) -> None:
    env = small()
    env.reset(1)
    before = env.batch.books.t
    with pytest.raises(ValueError, match="action of agent middle must be 7 finite floating-point"):
        env.step({"careful": GOOD, "middle": action, "free": GOOD})
    assert torch.equal(env.batch.books.t, before)  # and nothing has happened
    env.step({"careful": GOOD, "middle": GOOD, "free": GOOD})


def test_a_missing_action_is_refused_by_the_agents_name(small: Callable[[], MarketEnv]) -> None:
    env = small()
    env.reset(1)
    with pytest.raises(ValueError, match="action of agent free is missing"):
        env.step({"careful": GOOD, "middle": GOOD})


def test_values_outside_the_space_are_clamped(small: Callable[[], MarketEnv]) -> None:
    wide, exact = small(), small()
    for env, size in ((wide, 9.0), (exact, 1.0)):
        env.reset(2)
        env.step(dict.fromkeys(env.agents, np.full(7, size)))
    assert torch.equal(wide.batch.books.shares, exact.batch.books.shares)


# --- make_env ------------------------------------------------------------------------------------


def test_make_env_listens_to_its_overrides(
    embedded: MarketEnv, caplog: pytest.LogCaptureFixture
) -> None:
    env = envs.make_env("agents=five", "env.capital=777", "env.costs.spread_bp=3", "window=test")
    assert len(env.possible_agents) == 5
    assert env.batch.settings.capital == 777.0
    assert env.batch.settings.costs.spread_bp == 3.0
    assert env.batch.rows.start > embedded.batch.rows.stop
    assert "reads the sealed test window, 2013-01-02 to 2022-12-28" in caplog.text
    assert embedded.possible_agents == ["conservative", "balanced", "aggressive"]


@pytest.mark.parametrize(
    "override",
    ["env.cots.spread_bp=2", "agents=fiv", "env.capital=much", "window=tomorrow", "env.capital"],
)
def test_a_misspelt_override_is_an_error_of_hydra_and_leaves_no_trace(override: str) -> None:
    with pytest.raises(HydraException):
        envs.make_env(override)
    assert not GlobalHydra.instance().is_initialized()


def test_impact_needs_a_traded_value_for_every_name() -> None:
    """The embedded data have no volume."""
    with pytest.raises(InputError, match=r"volume.*market\.assumed_adv"):
        envs.make_env("env/costs=impact")
    with pytest.raises(InputError, match="needs the traded value of XOM, unknown on 1990-01-02"):
        envs.make_env(
            "env/costs=impact", "market.symbols=[AAPL,XOM]", "market.assumed_adv={AAPL:1e8}"
        )
    env = envs.make_env("env/costs=impact", "market.assumed_adv=1e8")
    env.reset(0)
    infos = env.step({name: np.ones(21, dtype=np.float32) for name in env.agents})[4]
    assert all(info["cost"] > 0.0 for info in infos.values())


def test_make_env_restores_a_hydra_that_is_already_there() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        outer = GlobalHydra.instance().hydra
        with pytest.raises(HydraException):
            envs.make_env("agents=fiv")
        assert GlobalHydra.instance().hydra is outer
        envs.make_env("env.episode_sessions=5")
        assert GlobalHydra.instance().hydra is outer
    assert not GlobalHydra.instance().is_initialized()


APPLICATION = """
import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

@hydra.main(config_path=None, version_base="1.3")
def main(config):
    import envs
    outer = GlobalHydra.instance().hydra
    env = envs.make_env("agents=five", "env.episode_sessions=5")
    env.reset(0)
    assert GlobalHydra.instance().hydra is outer
    assert HydraConfig.get().job.name == "application"
    print(len(env.agents), config.colour)

main()
"""


def test_make_env_works_inside_a_running_hydra_application(tmp_path: Path) -> None:
    script = tmp_path / "application.py"
    script.write_text(APPLICATION)
    arguments = [sys.executable, str(script), "+colour=red", "hydra.run.dir=."]
    run = subprocess.run(
        [*arguments, "hydra.output_subdir=null"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["5", "red"]
