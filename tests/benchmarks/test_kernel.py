"""The kernel's rates are those of whole episodes."""

import time

import pytest
import torch

from benchmarks import defaults, kernel
from benchmarks.kernel import Episodes
from benchmarks.synthetic_market import random_walk, society
from envs.batch import BatchEnv

SESSIONS = 6


def new_env(compiled: bool = False) -> BatchEnv:
    made = society(
        random_walk(300, 4), defaults.mandates(), defaults.settings(episode_sessions=SESSIONS)
    )
    return made.env(slice(0, 300))


@pytest.mark.parametrize("materialise", [False, True])
def test_an_episode_is_played_to_its_last_session(materialise: bool) -> None:
    env = new_env()
    episodes = Episodes(env, 5, materialise=materialise)
    episodes.play()
    assert bool((env.books.t == env.last).all())
    assert episodes.agent_steps == 5 * 3 * SESSIONS
    assert bool((env.books.shares.abs().sum(-1) > 0.0).all())


def test_the_whole_observation_is_that_of_the_environment() -> None:
    env = new_env()
    episodes = Episodes(env, 2)
    episodes.play()
    seen = env.observe()
    whole = episodes.flat(seen)
    assert whole.shape == (2, 3, 4 * 17 + 8 + 4 + 4 * 2 + 5)
    torch.testing.assert_close(whole[..., -5:], seen.book)
    torch.testing.assert_close(whole[:, 0, : 4 * 17], env.market.asset_features[seen.t].flatten(1))


def test_the_best_batch_is_shown_and_no_rate_is_above_the_clock() -> None:
    start = time.perf_counter()
    found = kernel.run(new_env, "cpu", 3, (1, 16), compiled=False)
    seconds = time.perf_counter() - start
    figures = {name: value for name, value in found.figures.items() if isinstance(value, int)}
    assert figures["batch"] == 16
    assert figures["agent_steps_per_s"] >= 3 * 16 * 3 * SESSIONS / seconds
    low, high = figures["agent_steps_per_s_low"], figures["agent_steps_per_s_high"]
    assert low <= figures["agent_steps_per_s"] <= high
    assert figures["eager_per_s"] == figures["agent_steps_per_s"]
    assert "compiled_per_s" not in figures
    assert [row[:2] for row in found.rows] == [
        (batch, work) for batch in ("1", "16") for work in (kernel.EAGER, kernel.MATERIALISED)
    ]


def test_both_kinds_of_environment_are_asked_for() -> None:
    asked = []

    def factory(compiled: bool) -> BatchEnv:
        asked.append(compiled)
        return new_env()

    found = kernel.run(factory, "cpu", 1, (2,))
    assert asked == [False, True]
    best = max(found.figures["eager_per_s"], found.figures["compiled_per_s"])  # type: ignore[call-overload]
    assert found.figures["agent_steps_per_s"] == best


def test_processes_at_once_count_together() -> None:
    figures = kernel.run(new_env, "cpu", 2, (2,), compiled=False, processes=2).figures
    assert figures["processes"] == 2
    low, rate = figures["agent_steps_per_s_low"], figures["agent_steps_per_s"]
    high = figures["agent_steps_per_s_high"]
    assert isinstance(low, int) and isinstance(rate, int) and isinstance(high, int)
    assert 0 < low <= rate <= high
