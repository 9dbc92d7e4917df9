"""The embedded result over several seeds: every stage, the ensemble and the baselines.

Each seed is one `tercet train` on the default windows and one `tercet backtest` per stage; further
arguments go to both. Test data choose nothing here: every seed and every stage counts. A line has
the medians over the seeds, and beside the Sharpe ratio the 95 % bootstrap interval of its
interquartile mean (of fewer than four seeds the range).

    python -m benchmarks.seeds [out=folder] [seeds=1,2,3,4,5] [override ...]
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import tercet
from evaluation.statistics import interquartile_mean_interval

SHOWN = ("sharpe", "sharpe_se", "cagr", "volatility", "max_drawdown", "turnover_annual")
TRAINING_ONLY = ("algorithm", "pretrain", "network", "selection", "tracking", "ensemble")
ENOUGH = 4  # seeds from which on there is a middle half
Row = dict[str, float]


def main() -> None:
    """Run all seeds and print one line per row; see `middle`."""
    own = {"out": "runs/seeds", "seeds": "1,2,3,4,5"}
    overrides = []
    for argument in sys.argv[1:]:
        name, _, value = argument.partition("=")
        if name in own:
            own[name] = value
        else:
            overrides.append(argument)
    shared = [o for o in overrides if not o.startswith(TRAINING_ONLY)]
    rows: dict[str, list[Row]] = {}
    for seed in own["seeds"].split(","):
        folder = Path(own["out"]) / f"seed{seed}"
        summary = tercet(folder, "train", f"seed={seed}", *overrides)
        collect(rows, "exported", summary)
        for name, row in summary["baselines"].items():
            rows.setdefault(name, []).append(row)
        for stage in sorted(path.name for path in (folder / "stages").iterdir()):
            policy = ("policy=artefact", f"policy.path={folder / 'stages' / stage}")
            judged = tercet(folder / f"backtest-{stage}", "backtest", *shared, *policy)
            collect(rows, stage, judged)
    print(f"{'':<34}{'Sharpe [seeds]':>22}{'± se':>7}{'CAGR':>8}{'vol':>8}{'max DD':>8}{'turn':>7}")
    found = {name: middle(every) for name, every in rows.items()}
    for name, row in found.items():
        print(
            f"{name:<34}{row['sharpe']:>8.2f} [{row['sharpe_low']:.2f}, {row['sharpe_high']:.2f}]"
            f"{row['sharpe_se']:>7.2f}{row['cagr']:>8.1%}{row['volatility']:>8.1%}"
            f"{row['max_drawdown']:>8.1%}{row.get('turnover_annual', 0.0):>7.2f}"
        )
    print(json.dumps(found))


def collect(rows: dict[str, list[Row]], prefix: str, summary: dict[str, Any]) -> None:
    """Add the ensemble and every agent of one summary."""
    for name, row in {**summary["agents"], "ensemble": summary["ensemble"]}.items():
        rows.setdefault(f"{prefix} {name}", []).append(row)


def middle(every: list[Row]) -> Row:
    """Return the median of each number over the seeds, and an interval of the Sharpe ratio.

    From four seeds on that is the 95 % bootstrap interval of the interquartile mean; of fewer it is
    the range.
    """
    numbers = {
        name: statistics.median(row[name] for row in every)
        for name in SHOWN
        if every[0][name] is not None  # the index has no turnover
    }
    sharpes = np.array([row["sharpe"] for row in every], dtype=np.float64)  # None becomes NaN
    low, high = float(sharpes.min()), float(sharpes.max())
    if len(sharpes) >= ENOUGH:
        found = interquartile_mean_interval(sharpes, np.random.default_rng(0))
        low, high = found.low, found.high
    return {**numbers, "sharpe_low": low, "sharpe_high": high}


if __name__ == "__main__":
    main()
