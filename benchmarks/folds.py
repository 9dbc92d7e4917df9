"""Walk forward over the embedded stocks, 2004 to 2019: what the supervised tilt adds to 1/N.

Eight folds of two years, expanding train window from 1991, one month of embargo. Each fold is one
`tercet train` (supervised warm start, no reinforcement learning) and one `tercet backtest` of what
it exported. The tilt is the balanced agent without its exposure rule and limits: equal weight,
tilted by at most 0.6 in log weight.

    python -m benchmarks.folds [out=folder] [seed=1]
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.command import tercet
from market.calendar import sessions
from risk import measures

FIRST_YEARS = range(2004, 2020, 2)
EMBARGO = 21
ROWS = {
    "equal_weight": "1/N, monthly",
    "volatility_target_conservative": "volatility-targeted 1/N, 8 %",
    "volatility_target_balanced": "volatility-targeted 1/N, 12 %",
    "volatility_target_aggressive": "volatility-targeted 1/N, 18 %",
    "balanced": "supervised tilt of 1/N, a = 0.6",
}
TILT_ONLY = (
    "algorithm=none",
    "tracking=none",
    "pretrain.keep_if=-inf",
    "agents.balanced.exposure=full",
    "limits@agents.balanced.limits=free",
)
AGENTS = TILT_ONLY[3:]


def main() -> None:
    """Run all folds and print Sharpe ratio, volatility and drawdown of the stitched returns."""
    options = dict(argument.split("=", 1) for argument in sys.argv[1:])
    out, seed = Path(options.get("out", "runs/folds")), options.get("seed", "1")
    returns = pd.concat([fold(out, year, seed) for year in FIRST_YEARS])
    print(f"{'2004-2019, net of 6 bp, cash earns 0':<40}{'Sharpe':>8}{'vol':>8}{'max DD':>8}")
    found = {}
    for column, label in ROWS.items():
        daily = returns[column].to_numpy()
        nav = np.concatenate([[1.0], np.cumprod(1.0 + daily)])
        found[column] = {
            "sharpe": measures.sharpe(daily, 252),
            "volatility": measures.volatility(daily, 252),
            "max_drawdown": measures.max_drawdown(nav),
        }
        row = found[column]
        print(
            f"{label:<40}{row['sharpe']:>8.2f}{row['volatility']:>8.1%}{row['max_drawdown']:>8.1%}"
        )
    print(json.dumps({"seed": int(seed), **found}))


def fold(out: Path, year: int, seed: str) -> pd.DataFrame:
    """Return the daily returns of one fold's books."""
    calendar = sessions("XNYS", np.datetime64(f"{year - 1}-01-01"), np.datetime64(f"{year}-01-01"))
    train = f"[1991-01-02,{calendar[-1 - EMBARGO]}]"
    test = f"[{calendar[-1]},{year + 1}-12-31]"  # decided at the last close before the fold
    windows = (f"market.train={train}", f"market.test={test}", f"seed={seed}")
    trained = out / f"{year}-seed{seed}"
    tercet(trained, "train", *windows, *TILT_ONLY)
    judged = out / f"{year}-seed{seed}-backtest"
    policy = ("policy=artefact", f"policy.path={trained / 'artefact'}")
    tercet(judged, "backtest", *windows, *AGENTS, *policy)
    nav = pd.read_parquet(judged / "nav.parquet")
    return nav.pct_change().iloc[1:]


if __name__ == "__main__":
    main()
