"""A run that is asked to end, then killed, then goes on, ends as one that nothing happened to."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from market.compose import CONF

torch.set_num_threads(1)

SMALL = (
    "market=synthetic", "market.sessions=800", "market.assets=5", "env.episode_sessions=21",
    "network.members=2", "tracking=none", "pretrain.updates=20", "pretrain.batch_days=64",
    "algorithm.starts=2", "algorithm.replicas=4", "algorithm.minibatch_days=21",
    "algorithm.steps=15_120",
)  # fmt: skip
EVERY_ITERATION = "algorithm.checkpoint_seconds=1e-6"
PATIENCE_S = 120.0
WEIGHTS = ("artefact", "stages/warm_start", "stages/rl")


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `tercet train` as a process of its own, which does not outlive the block."""
    command = [sys.executable, "-m", "cli", "train", *SMALL, EVERY_ITERATION, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def wait_for_state(run: Path, part: str, number: int) -> None:
    """Wait until a run has left that many states of a part, or later ones."""
    deadline = time.monotonic() + PATIENCE_S
    while not any(
        int(state.name.rpartition("-")[2]) >= number
        for state in run.glob(f"checkpoint/{part}.state-*")
    ):
        assert time.monotonic() < deadline, f"no state of {part} within {PATIENCE_S} s"
        time.sleep(0.01)


def test_a_run_that_was_ended_and_then_killed_goes_on_to_the_same_bytes(
    tercet: Callable[..., Any], tmp_path: Path
) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    with process(f"out={run}", "resume=auto") as first:
        wait_for_state(run, "inner-rl", 1)
        first.send_signal(signal.SIGTERM)
        _, said = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1] == (
        f"ended by SIGTERM; to go on, add resume={run} to the same overrides"
    )
    assert "Traceback" not in said

    with process(f"out={run}", "resume=auto") as second:
        wait_for_state(run, "final-rl", 1)
        second.kill()
    assert not (run / "summary.json").exists()

    code, out, said = tercet("train", *SMALL, EVERY_ITERATION, f"out={run}", "resume=auto")
    assert code == 0, said
    assert f"resume=auto: {run} goes on" in said
    assert "inner pass, ppo" not in said  # what was finished is not trained again
    assert str(run / "artefact") in out

    code, _, said = tercet("train", *SMALL, EVERY_ITERATION, f"out={whole}")
    assert code == 0, said
    for place in WEIGHTS:
        name = f"{place}/policy.safetensors"
        assert (run / name).read_bytes() == (whole / name).read_bytes(), place
