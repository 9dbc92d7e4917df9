"""Time one device with numpy and torch alone: `python -m benchmarks.device --device cuda`.

The kernel (eager and compiled), sampling, a bare PPO loop, and what the machine allows. Tables,
and as the last line of stdout one JSON object with all figures.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch

from benchmarks import bare_torch, defaults, kernel, roofline
from benchmarks.measure import Result, machine, table
from benchmarks.synthetic_market import random_walk, society
from training.society import Society

SEED = 0
COUNTED_SESSIONS = 63  # of an episode whose work is counted


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes that keep a device busy; a value that is given on the command line replaces one."""

    batches: tuple[int, ...]  # environments of the kernel
    starts: int  # of the loop
    replicas: int  # of the loop
    minibatch_days: int  # of the loop
    elements: int  # of each array of the triad, float64
    matrix: int  # rows of the large matrices


CPU = Sizes(
    batches=(256, 512, 1024),
    starts=8,
    replicas=16,
    minibatch_days=252,
    elements=2**25,
    matrix=2048,
)
CUDA = Sizes(
    batches=(4096, 16_384, 65_536),
    starts=128,
    replicas=64,
    minibatch_days=4032,
    elements=2**28,
    matrix=8192,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print what was found."""
    given = _parser().parse_args(arguments)
    torch.set_num_threads(given.threads)
    results = measure(given, _sizes(given))
    for result in results:
        print(table(result.columns, result.rows), end="\n\n", flush=True)
    figures = {result.benchmark: dict(result.figures) for result in results}
    print(json.dumps({"benchmark": "device", **machine(given.device), **figures}, allow_nan=False))


def measure(given: argparse.Namespace, sizes: Sizes) -> list[Result]:
    """Run all benchmarks of one device."""
    rows = slice(0, given.sessions)
    settings = defaults.algorithm(
        device=torch.device(given.device).type,
        starts=sizes.starts,
        replicas=sizes.replicas,
        minibatch_days=sizes.minibatch_days,
    )

    def trading(device: str, episode: int, *, compiled: bool) -> Society:
        market = random_walk(given.sessions, given.assets, device)
        environment = defaults.settings(episode_sessions=episode, compile=compiled)
        return society(market, defaults.mandates(given.agents), environment)

    societies = {
        compiled: trading(given.device, given.episode, compiled=compiled)
        for compiled in {False, given.compile}
    }
    stepped = kernel.run(
        lambda compiled: societies[compiled].env(rows),
        given.device,
        given.repeats,
        sizes.batches,
        compiled=given.compile,
    )
    loop = bare_torch.run(societies[given.compile], rows, settings, SEED, given.repeats)
    network = societies[False].network
    narrow = network.members, settings.minibatch_days * given.assets, network.hidden
    allowed = roofline.peaks(given.device, sizes.elements, sizes.matrix, narrow, given.repeats)
    reached = {
        "kernel": _rate(stepped, "agent_steps_per_s"),
        "sampling": _rate(loop, "sample_per_s"),
        "learning": _rate(loop, "learn_per_s"),
    }
    counted = trading("cpu", min(given.episode, COUNTED_SESSIONS), compiled=False)
    beside = roofline.run(allowed, counted, rows, settings, reached)
    return [stepped, loop, allowed.result(), beside]


def _rate(result: Result, figure: str) -> float:
    rate = result.figures[figure]
    assert isinstance(rate, int)
    return float(rate)


def _sizes(given: argparse.Namespace) -> Sizes:
    """Return what suits the device, but for the sizes that were given."""
    usual = CUDA if torch.device(given.device).type == "cuda" else CPU
    names = (item.name for item in fields(Sizes))
    return replace(
        usual, **{name: value for name in names if (value := getattr(given, name)) is not None}
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.device", description=(__doc__ or "").splitlines()[0]
    )
    found = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=found, help="default here: %(default)s")
    # A second thread waits for the first more than it computes, see docs/performance.md.
    parser.add_argument("--threads", type=_count, default=1, help="of torch on the CPU")
    parser.add_argument("--repeats", type=_count, default=5, help="timed runs of each work")
    parser.add_argument("--agents", type=_count, default=3)
    parser.add_argument("--assets", type=_count, default=20)
    parser.add_argument("--sessions", type=_count, default=4000, help="of the market")
    parser.add_argument("--episode", type=_count, default=252, help="sessions of an episode")
    parser.add_argument(
        "--no-compile", dest="compile", action="store_false", help="time eager code alone"
    )
    parser.add_argument("--batches", type=_counts, help="environments, such as 256,1024")
    parser.add_argument("--starts", type=_count, help="episode starts of the loop")
    parser.add_argument("--replicas", type=_count, help="environments of each start")
    parser.add_argument("--minibatch-days", type=_count, help="day slots of an update")
    parser.add_argument("--elements", type=_count, help="of each array of the bandwidth test")
    parser.add_argument("--matrix", type=_count, help="rows of the large matrix products")
    return parser


def _count(text: str) -> int:
    """Return a positive whole number; argparse makes one line of the error."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, was {value}")
    return value


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(","))


if __name__ == "__main__":
    main()
