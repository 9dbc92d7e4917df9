import pytest

from benchmarks.pettingzoo import run
from envs import make_env
from envs.market_env import MarketEnv

SMALL = ("market=synthetic", "market.assets=4", "market.sessions=900", "env.episode_sessions=20")


def small(compiled: bool) -> MarketEnv:
    return make_env(*SMALL, f"env.compile={compiled}")


def test_the_rate_is_that_of_the_median_run_and_lies_between_its_ends() -> None:
    result = run(small, repeats=3, steps=30, compiled=False)
    figures = result.figures
    low, high = figures["env_steps_per_s_low"], figures["env_steps_per_s_high"]
    assert 0.0 < low <= figures["env_steps_per_s"] <= high
    assert figures["env_steps_per_s"] == figures["eager_per_s"]
    assert figures["compile"] is False
    assert "compiled_per_s" not in figures
    assert (figures["agents"], figures["assets"]) == (3, 4)


def test_episodes_that_end_are_begun_again() -> None:
    env = small(False)
    run(lambda _: env, repeats=1, steps=45, compiled=False)
    assert env.agents  # 90 steps in all, of episodes of 20


@pytest.mark.slow
def test_the_compiled_environment_is_measured_beside_the_eager_one() -> None:
    figures = run(small, repeats=1, steps=30).figures
    assert figures["compile_seconds"] > 0.0
    rates = figures["eager_per_s"], figures["compiled_per_s"]
    assert figures["env_steps_per_s"] == max(rates)
    assert figures["compile"] is (rates[1] > rates[0])
