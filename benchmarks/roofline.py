"""How fast this machine could be: its bandwidth and arithmetic against what our code must do.

A step that moves so many bytes and does so many operations takes at least as long as the slower of
the two. Bytes are counted twice: those that must move at least once (what a step takes and gives;
the market's rows are shared and stay in the cache), and those that move when every operator goes to
memory for itself, as it does in code that is not compiled.

Source:
    Williams, Waterman & Patterson, "Roofline", Communications of the ACM, 2009; McCalpin, "STREAM"
    (the triad).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benchmarks.arithmetic import Count, count, nbytes
from benchmarks.bare_torch import BareLoop
from benchmarks.kernel import Episodes
from benchmarks.measure import Result, interleaved
from envs.batch import BatchEnv
from training.settings import RLSettings
from training.society import Society

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
PRODUCTS = 4  # matrix products of one timing

COUNTED_ENVS = 32  # a step of any number of environments does the same for each


@dataclass(frozen=True, slots=True)
class Peaks:
    """What the machine can do, measured."""

    bandwidth: float  # bytes/s, read and written
    gemm: Mapping[str, float]  # operations/s of a large matrix product, by dtype
    narrow_gemm: Mapping[str, float]  # likewise of the policy's own product

    def result(self) -> Result:
        """Return the figures as a table of their own."""
        named = {f"gemm_{name}": rate for name, rate in self.gemm.items()}
        named |= {f"policy_gemm_{name}": rate for name, rate in self.narrow_gemm.items()}
        figures: dict[str, object] = {"bandwidth_gb_per_s": round(self.bandwidth / 1e9, 2)}
        figures |= {f"{name}_gflop_per_s": round(rate / 1e9, 1) for name, rate in named.items()}
        rows = tuple((name, f"{value:,}") for name, value in figures.items())
        return Result("peaks", figures, ("machine", ""), rows)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one agent step of a part of the work takes."""

    double: float  # arithmetic operations in float64: money
    single: float  # likewise of the policies
    bytes: float  # at least
    unfused_bytes: float

    @classmethod
    def of(cls, counted: Count, least: float, steps: int) -> "Cost":
        """Return what was counted over some agent steps, each of which moves `least` bytes."""
        return cls(counted.double / steps, counted.other / steps, least, counted.bytes / steps)

    def bound(self, peaks: Peaks) -> float:
        """Return the most agent steps per second."""
        computing = self.double / peaks.gemm["float64"] + self.single / peaks.gemm["float32"]
        return 1.0 / max(computing, self.bytes / peaks.bandwidth)


def peaks(
    device: str, elements: int, size: int, narrow: tuple[int, int, int], repeats: int
) -> Peaks:
    """Measure what the machine can do.

    Args:
        device: a torch device name.
        elements: of each of the triad's three float64 arrays; beyond the last cache.
        size: rows and columns of the large square matrices.
        narrow: members, rows and width of the policy's product.
        repeats: timed runs of each.
    """
    members, rows, width = narrow
    works: dict[str, Callable[[], object]] = {"triad": _triad(device, elements)}
    for name, dtype in DTYPES.items():
        works[f"large {name}"] = _products((1, size, size), size, dtype, device)
        works[f"narrow {name}"] = _products((members, rows, width), width, dtype, device)
    times = interleaved(works, repeats)
    large, small = 2 * PRODUCTS * size**3, 2 * PRODUCTS * members * rows * width**2
    return Peaks(
        bandwidth=3 * 8 * elements / times["triad"].low,
        gemm={name: large / times[f"large {name}"].low for name in DTYPES},
        narrow_gemm={name: small / times[f"narrow {name}"].low for name in DTYPES},
    )


def run(
    peaks: Peaks,
    society: Society,
    rows: slice,
    settings: RLSettings,
    reached: Mapping[str, float],
) -> Result:
    """Set what was reached against what the machine allows.

    Args:
        peaks: of the machine.
        society: counted, so its episodes may be short; on the CPU and not compiled.
        rows: sessions that may be visited.
        settings: of the algorithm.
        reached: agent steps per second of "kernel", "sampling" and "learning".
    """
    costs = {"kernel": kernel_cost(society.env(rows)), **loop_costs(society, rows, settings)}
    figures: dict[str, object] = {}
    lines = []
    for part, cost in costs.items():
        bound, unfused = cost.bound(peaks), peaks.bandwidth / cost.unfused_bytes
        share = reached[part] / bound
        figures |= {
            f"{part}_operations": round(cost.double + cost.single),
            f"{part}_operations_float64": round(cost.double),
            f"{part}_bytes": round(cost.bytes),
            f"{part}_unfused_bytes": round(cost.unfused_bytes),
            f"{part}_bound_per_s": round(bound),
            f"{part}_unfused_bound_per_s": round(unfused),
            f"{part}_share": round(share, 4),
        }
        each = (cost.double, cost.single, cost.bytes, cost.unfused_bytes)
        numbers = (*each, bound, unfused, reached[part])
        lines.append((part, *(f"{number:,.0f}" for number in numbers), f"{share:.1%}"))
    work = ("an agent step", "float64", "other", "bytes", "unfused")
    speed = ("at most/s", "unfused/s", "reached/s", "share")
    return Result("roofline", figures, (*work, *speed), tuple(lines))


def kernel_cost(env: BatchEnv) -> Cost:
    """Return what one agent step of an environment takes that is not compiled."""
    episodes = Episodes(env, COUNTED_ENVS)
    counted = count(episodes.play)
    return Cost.of(counted, _least_bytes(env), episodes.agent_steps)


def loop_costs(society: Society, rows: slice, settings: RLSettings) -> dict[str, Cost]:
    """Return what one agent step of sampling, the kernel included, and of learning takes."""
    loop = BareLoop(society, rows, settings, seed=0)
    batches = loop.sample()
    sampling, learning = count(loop.sample), count(lambda: loop.learn(batches))
    steps, once = loop.agent_steps, nbytes(batches) / loop.agent_steps
    return {
        "sampling": Cost.of(sampling, _least_bytes(society.env(rows)) + once, steps),
        "learning": Cost.of(learning, settings.epochs * once, steps),
    }


def _least_bytes(env: BatchEnv) -> float:
    """Return the bytes that one agent step of the kernel takes and gives."""
    env.reset(env.draw_starts(COUNTED_ENVS, torch.Generator()))
    action = torch.zeros(COUNTED_ENVS, env.n_agents, env.market.n_assets + 1)
    taken = nbytes(action, env.last, env.scale, *_state(env))
    transition = env.step(action)
    given = nbytes(transition, env.observe(), *_state(env))
    return (taken + given) / (COUNTED_ENVS * env.n_agents)


def _state(env: BatchEnv) -> tuple[object, ...]:
    return env.books, env.tilt, env.reward_state, env.alive


def _triad(device: str, elements: int) -> Callable[[], object]:
    """Return a = b + s c over arrays of that many float64."""
    a, b, c = (torch.ones(elements, dtype=torch.float64, device=device) for _ in range(3))
    return lambda: torch.add(b, c, alpha=3.0, out=a)


def _products(
    shape: tuple[int, int, int], width: int, dtype: torch.dtype, device: str
) -> Callable[[], object]:
    """Return `PRODUCTS` products of a batch of matrices with square ones."""
    left = torch.ones(shape, dtype=dtype, device=device)
    right = torch.ones(shape[0], width, width, dtype=dtype, device=device)
    out = torch.empty(shape, dtype=dtype, device=device)

    def work() -> None:
        for _ in range(PRODUCTS):
            torch.bmm(left, right, out=out)

    return work
