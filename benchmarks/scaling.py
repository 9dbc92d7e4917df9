"""How time grows with environments, agents, assets, features and days, each doubled three times.

The exponent is the least-squares slope of log time over log size: 1 is proportional. The sizes are
such that what a run costs whatever its size (`fixed`: the same run with as few environments as
there can be) is a small part. Features only enter the encoding of a day, so they are doubled there.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import torch

from benchmarks import defaults
from benchmarks.bare_torch import BareLoop
from benchmarks.kernel import Episodes
from benchmarks.measure import Result, Timing, interleaved
from benchmarks.synthetic_market import random_walk, society
from training.society import Society, day_parts

DOUBLINGS = 3
REPLICAS = 16  # environments of one start
SEED = 0
FIXED = "fixed"
COLUMNS = ("work, axis doubled", "sizes", "s at the median", "exponent", "fixed")

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of one piece of work."""

    environments: int
    agents: int
    assets: int
    features: int
    days: int  # of an episode


@dataclass(frozen=True, slots=True)
class Study:
    """One kind of work, and the sizes from which it is made to grow.

    Args:
        work: makes it, for a device.
        base: the smallest sizes.
        axes: fields of `Sizes` -> name of the exponent.
        least: the same sizes with next to nothing in them, for the fixed cost.
    """

    work: Callable[[Sizes, str], Work]
    base: Sizes
    axes: Mapping[str, str]
    least: Sizes


@dataclass(frozen=True, slots=True)
class Growth:
    """The times of one axis."""

    label: str
    sizes: tuple[int, ...]
    timings: tuple[Timing, ...]
    fixed: Timing

    @property
    def exponent(self) -> float:
        """Return the slope of log time over log size."""
        return slope(self.sizes, [timing.median for timing in self.timings])

    @property
    def fixed_share(self) -> float:
        """Return the fixed cost as a fraction of the time of the smallest size."""
        return self.fixed.median / self.timings[0].median

    def row(self) -> tuple[str, ...]:
        """Return a line of the table."""
        return (
            self.label,
            " ".join(f"{size:,}" for size in self.sizes),
            " ".join(f"{timing.median:.3g}" for timing in self.timings),
            f"{self.exponent:.2f}",
            f"{self.fixed_share:.1%}",
        )


def run(device: str, repeats: int, studies: Mapping[str, Study] | None = None) -> Result:
    """Measure every exponent.

    Args:
        device: a torch device name.
        repeats: timed runs of each size, the sizes in turn.
        studies: name -> what is made to grow; `STUDIES` where absent.
    """
    exponents, shares, details, rows = {}, {}, {}, []
    for name, study in (STUDIES if studies is None else studies).items():
        for axis, figure in study.axes.items():
            growth = _measure(f"{name}, {axis}", study, axis, device, repeats)
            exponents[f"exponent_{figure}"] = growth.exponent
            shares[f"fixed_{figure}"] = growth.fixed_share
            details[f"seconds_{figure}"] = {
                size: [timing.median, timing.low, timing.high]
                for size, timing in zip(growth.sizes, growth.timings, strict=True)
            }
            rows.append(growth.row())
    figures = {**exponents, **shares, **details, "repeats": repeats}
    return Result("scaling", figures, COLUMNS, tuple(rows))


def slope(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """Return the least-squares slope of log seconds over log size.

    >>> round(slope((1, 2, 4, 8), [3.0, 6.0, 12.0, 24.0]), 12)
    1.0
    """
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _measure(label: str, study: Study, axis: str, device: str, repeats: int) -> Growth:
    first: int = asdict(study.base)[axis]
    sizes = tuple(first * 2**i for i in range(DOUBLINGS + 1))
    works = {str(size): study.work(replace(study.base, **{axis: size}), device) for size in sizes}
    works[FIXED] = study.work(study.least, device)
    timings = interleaved(works, repeats)
    every = tuple(timings[str(size)] for size in sizes)
    return Growth(label, sizes, every, timings[FIXED])


def _society(sizes: Sizes, device: str, rows: int) -> Society:
    """Return the default mandates, as many as asked for, over an invented market."""
    market = random_walk(rows, sizes.assets, device, features=sizes.features, seed=SEED)
    settings = defaults.settings(episode_sessions=sizes.days)
    return society(market, defaults.mandates(sizes.agents), settings)


def _stepping(sizes: Sizes, device: str) -> Work:
    """Return an episode of all environments: steps, rewards and book observations."""
    rows = 2 * sizes.days + 1
    env = _society(sizes, device, rows).env(slice(0, rows))
    return Episodes(env, sizes.environments).play


def _training(sizes: Sizes, device: str) -> Work:
    """Return one iteration of the bare loop: an episode is sampled and learned from in one step."""
    rows = 2 * sizes.days + 1
    replicas = min(REPLICAS, sizes.environments)
    starts = sizes.environments // replicas
    settings = defaults.algorithm(
        starts=starts,
        replicas=replicas,
        epochs=1,
        minibatch_days=starts * sizes.days,
        device=torch.device(device).type,
    )
    return BareLoop(_society(sizes, device, rows), slice(0, rows), settings, SEED).iterate


def _encoding(sizes: Sizes, device: str) -> Work:
    """Return the encoding of every day for every policy."""
    trading = _society(sizes, device, sizes.days)
    networks = [network.to(device) for network in trading.new_networks(SEED).values()]
    days = torch.arange(sizes.days, device=device)
    encode = partial(day_parts, networks, trading.market, days, bfloat16=False)
    return partial(_without_gradient, encode)


@torch.no_grad()
def _without_gradient(work: Work) -> None:
    work()


STEPPING = Sizes(environments=2048, agents=3, assets=20, features=17, days=4)
TRAINING = Sizes(environments=3072, agents=3, assets=20, features=17, days=8)
ENCODING = Sizes(environments=1, agents=3, assets=20, features=64, days=1024)
STUDIES = {
    "environment steps": Study(
        _stepping,
        STEPPING,
        {axis: axis for axis in ("environments", "agents", "assets")},
        replace(STEPPING, environments=1),
    ),
    "sampling and learning": Study(
        _training,
        TRAINING,
        {
            "environments": "training_environments",
            "agents": "training_agents",
            "assets": "training_assets",
            "days": "days",
        },
        replace(TRAINING, environments=2),
    ),
    "encoding of days": Study(
        _encoding, ENCODING, {"features": "features"}, replace(ENCODING, days=2)
    ),
}
