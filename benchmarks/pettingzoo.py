"""Steps a second of one PettingZoo environment under random actions, resets included."""

import time
from collections.abc import Callable

import numpy as np

from benchmarks.measure import Result, Timing, interleaved
from envs.market_env import MarketEnv

STEPS = 2_000  # of one timed run; several episodes
SEED = 1
Actions = dict[str, np.ndarray[tuple[int], np.dtype[np.float32]]]


def run(
    make: Callable[[bool], MarketEnv], repeats: int, steps: int = STEPS, compiled: bool = True
) -> Result:
    """Measure the environment as it is and, beside it, compiled.

    Args:
        make: returns a new environment, compiled where it is told so.
        repeats: timed runs of each.
        steps: environment steps of one run.
        compiled: measure the compiled environment too.
    """
    eager = _Player(make(False))
    works = {"eager": lambda: eager.play(steps)}
    compile_seconds = 0.0
    if compiled:
        fast = _Player(make(True))
        started = time.perf_counter()
        fast.play(1)
        compile_seconds = time.perf_counter() - started
        works["compiled"] = lambda: fast.play(steps)
    timings = interleaved(works, repeats)
    best = min(timings, key=lambda name: timings[name].median)
    figures = {
        "env_steps_per_s": steps / timings[best].median,
        "compile": best == "compiled",
        "env_steps_per_s_low": steps / timings[best].high,
        "env_steps_per_s_high": steps / timings[best].low,
        **{f"{name}_per_s": steps / timing.median for name, timing in timings.items()},
        "compile_seconds": compile_seconds,
        "steps": steps,
        "agents": len(eager.env.possible_agents),
        "assets": eager.env.batch.market.n_assets,
        "repeats": repeats,
    }
    rows = tuple(_row(name, timing, steps) for name, timing in timings.items())
    return Result("pettingzoo", figures, ("one environment", "steps/s", "low", "high"), rows)


def _row(name: str, timing: Timing, steps: int) -> tuple[str, ...]:
    rates = (timing.median, timing.high, timing.low)
    return (name, *(f"{steps / seconds:,.0f}" for seconds in rates))


class _Player:
    """Plays random actions, drawn beforehand: what is measured is the environment."""

    def __init__(self, env: MarketEnv) -> None:
        self.env = env
        generator = np.random.default_rng(SEED)
        self._actions: list[Actions] = [
            {
                name: generator.uniform(-1.0, 1.0, env.action_space(name).shape).astype(np.float32)
                for name in env.possible_agents
            }
            for _ in range(64)
        ]
        env.reset(seed=SEED)

    def play(self, steps: int) -> None:
        """Step on, with a reset whenever an episode ends."""
        for step in range(steps):
            self.env.step(self._actions[step % len(self._actions)])
            if not self.env.agents:
                self.env.reset()
