"""Time the kernel: every step with its reward, and what the agents then see of their books.

The market part of an observation is its day, which policies gather from shared encodings; the
figure with every agent's whole observation written out stands beside it (`materialised_per_s`).
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

import torch
from torch import Tensor

from agents.observation import BOOK_CLIP, Blocks, ObservationSpec
from benchmarks.measure import Result, Timing, interleaved
from envs.batch import BatchEnv, BookObservation

BATCHES = (256, 512, 1024)
CUDA_BATCHES = (4096, 16_384, 65_536)
ACTIONS = 8  # sets of actions, drawn before the clock starts and used in turn

EAGER, COMPILED, MATERIALISED = "eager", "compiled", "whole observation"

NewEnv = Callable[[bool], BatchEnv]


class Episodes:
    """Whole episodes of E environments under random actions.

    Args:
        env: stepped; its device is used.
        n_envs: E.
        materialise: write out the observation of every agent after every step.
    """

    def __init__(self, env: BatchEnv, n_envs: int, *, materialise: bool = False) -> None:
        market, generator = env.market, torch.Generator().manual_seed(n_envs)
        self._env, self._materialise = env, materialise
        self._starts = env.draw_starts(n_envs, generator)
        shape = (ACTIONS, n_envs, env.n_agents, market.n_assets + 1)
        self._actions = (2.0 * torch.rand(shape, generator=generator) - 1.0).to(market.device)
        self._spec = ObservationSpec(
            n_assets=market.n_assets,
            asset_features=market.asset_features.shape[-1],
            market_features=market.market_features.shape[-1],
            clip=BOOK_CLIP,
        )
        self.sessions = env.settings.episode_sessions
        self.agent_steps = n_envs * env.n_agents * self.sessions

    def play(self, sessions: int | None = None) -> None:
        """Play one episode, or its first `sessions`."""
        self._env.reset(self._starts, self.sessions)
        for step in range(self.sessions if sessions is None else sessions):
            self._env.step(self._actions[step % ACTIONS])
            seen = self._env.observe()
            if self._materialise:
                self.flat(seen)

    def flat(self, seen: BookObservation) -> Tensor:
        """Return the (E, A, D) whole observations."""
        market = self._env.market
        blocks = Blocks(
            market.asset_features[seen.t],
            market.market_features[seen.t],
            market.investable[seen.t],
            seen.asset,
            seen.book,
        )
        return self._spec.flat(blocks)


def run(
    new_env: NewEnv,
    device: str,
    repeats: int,
    batches: Sequence[int] | None = None,
    *,
    compiled: bool = True,
    processes: int = 1,
) -> Result:
    """Time whole episodes over several numbers of environments, eager and compiled.

    Args:
        new_env: returns a new environment on the device, compiled or not.
        device: a torch device name.
        repeats: timed episodes of each kind, in turn.
        batches: numbers of environments; by default what suits the device.
        compiled: time the compiled environment as well.
        processes: how many play the best batch at once, each on one thread, as env runners do;
            the figures are of all of them together. A GPU has one.
    """
    if batches is None:
        batches = CUDA_BATCHES if torch.device(device).type == "cuda" else BATCHES
    found = [_Batch(new_env, n_envs, repeats, compiled, processes) for n_envs in batches]
    kinds = (COMPILED, EAGER) if compiled else (EAGER,)
    best, kind = max(
        ((batch, kind) for batch in found for kind in kinds),
        key=lambda pair: pair[0].rate_together(pair[1]),
    )
    whole = max(batch.rate_together(MATERIALISED) for batch in found)
    steps, together = processes * best.agent_steps, best.together[kind]
    figures: dict[str, object] = {
        "agent_steps_per_s": round(best.rate_together(kind)),
        "materialised_per_s": round(whole),
        "processes": processes,
        "one_process_per_s": round(best.rate(kind)),
        "batch": best.n_envs,
        "mode": kind,
        "eager_per_s": max(round(batch.rate(EAGER)) for batch in found),
    }
    if compiled:
        figures["compiled_per_s"] = max(round(batch.rate(COMPILED)) for batch in found)
        figures["compile_seconds"] = round(best.compile_seconds, 1)
    figures |= {
        "agent_steps_per_s_low": round(steps / together.high),
        "agent_steps_per_s_high": round(steps / together.low),
        "agents": best.n_agents,
        "assets": best.n_assets,
        "sessions": best.sessions,
        "repeats": repeats,
    }
    columns = ("environments", "kernel", "one process", "agent steps/s", "slowest", "fastest")
    return Result("kernel", figures, columns, tuple(row for batch in found for row in batch.rows()))


class _Batch:
    """The timings of one number of environments."""

    def __init__(
        self, new_env: NewEnv, n_envs: int, repeats: int, compiled: bool, processes: int
    ) -> None:
        env = new_env(False)
        works = {EAGER: Episodes(env, n_envs)}
        self.compile_seconds = 0.0
        if compiled:
            torch.compiler.reset()  # else the next shape is compiled for any number of environments
            env = new_env(True)
            works[COMPILED] = Episodes(env, n_envs)
            self.compile_seconds = _first_steps(works[COMPILED])
        works[MATERIALISED] = Episodes(env, n_envs, materialise=True)
        self.n_envs, self.n_agents, self.n_assets = n_envs, env.n_agents, env.market.n_assets
        self.sessions, self.agent_steps = works[EAGER].sessions, works[EAGER].agent_steps
        self.times: dict[str, Timing] = interleaved(
            {name: episodes.play for name, episodes in works.items()}, repeats
        )
        self.processes = processes
        self.together = self.times
        if processes > 1:
            self.together = {
                name: _at_once(episodes, processes, repeats) for name, episodes in works.items()
            }

    def rate(self, kind: str) -> float:
        """Return the agent steps per second of one kind, at its median."""
        return self.agent_steps / self.times[kind].median

    def rate_together(self, kind: str) -> float:
        """Return likewise the rate of all processes at once."""
        return self.processes * self.agent_steps / self.together[kind].median

    def rows(self) -> list[tuple[str, ...]]:
        """Return the lines of the table."""
        steps = self.processes * self.agent_steps
        return [
            (
                f"{self.n_envs:,}",
                kind,
                f"{self.rate(kind):,.0f}",
                f"{self.rate_together(kind):,.0f}",
                f"{steps / timing.high:,.0f}",
                f"{steps / timing.low:,.0f}",
            )
            for kind, timing in self.together.items()
        ]


def _first_steps(episodes: Episodes) -> float:
    """Return the seconds of the first two steps: those that compile."""
    return interleaved({"": lambda: episodes.play(sessions=2)}, repeats=1, warmups=0)[""].median


def _at_once(episodes: Episodes, processes: int, repeats: int) -> Timing:
    """Return the seconds until all of several processes have played an episode each.

    They are forks of this one, so that nothing is compiled or loaded again.
    """
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    workers = [
        context.Process(target=_play_rounds, args=(episodes, barrier, repeats, sender))
        for _, sender in pipes
    ]
    for worker in workers:
        worker.start()
    rounds = [receiver.recv() for receiver, _ in pipes]
    for worker in workers:
        worker.join()
    return Timing(tuple(map(max, zip(*rounds, strict=True))))


def _play_rounds(episodes: Episodes, barrier: Barrier, repeats: int, sender: Connection) -> None:
    """Send the seconds of `repeats` episodes, each started together with the other processes."""
    torch.set_num_threads(1)
    episodes.play()
    seconds = []
    for _ in range(repeats):
        barrier.wait()
        start = time.perf_counter()
        episodes.play()
        seconds.append(time.perf_counter() - start)
    sender.send(seconds)
