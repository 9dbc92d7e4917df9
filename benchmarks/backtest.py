"""Time of a backtest: agents, their ensemble and the baselines over the test window.

Every agent is an untrained network of the configured shape, which costs what a trained one does: a
forward pass a day. Everything runs at the four cost scales, as every backtest of the product does.
"""

from collections.abc import Iterable

from agents import baselines
from agents.baselines import OPTIMISED, Schedule
from agents.ensemble import Mixer
from benchmarks.measure import Result, Timing, interleaved
from evaluation.backtest import BacktestWindow, run_agents, run_schedules
from evaluation.contest import run_contest
from evaluation.netting import ensemble_schedules
from evaluation.players import Policies
from market.bars import TRADING_DAYS
from market.dataset import Dataset
from training.society import Society

LABELS = {
    "backtest": "agents, ensemble and rule baselines",
    "contest": "the same, and every doubt of the report",
    "optimisers": "optimiser baselines: fitted and run",
}


def run(society: Society, data: Dataset, mixer: Mixer, seed: int, repeats: int) -> Result:
    """Time a backtest, the optimisers apart.

    Args:
        society: the agents, over the market of `data`.
        data: its test window is run.
        mixer: capital shares of the agents.
        seed: of the networks.
        repeats: timed runs of each part.
    """
    match = _Match(society, data, mixer, seed)
    timings = interleaved(
        {"backtest": match.backtest, "contest": match.contest, "optimisers": match.optimisers},
        repeats,
    )
    backtest, optimisers = timings["backtest"], timings["optimisers"]
    figures = {
        "seconds": backtest.median,
        "optimiser_seconds": optimisers.median,
        "contest_seconds": timings["contest"].median,
        "seconds_low": backtest.low,
        "seconds_high": backtest.high,
        "optimiser_seconds_low": optimisers.low,
        "optimiser_seconds_high": optimisers.high,
        "days": match.window.sessions,
        "assets": len(data.bars.symbols),
        "agents": len(society.mandates),
        "rule_baselines": len(match.rules),
        "optimiser_baselines": len(OPTIMISED),
        "cost_scales": len(match.window.cost_scales),
        "repeats": repeats,
    }
    years = f"{match.window.sessions / TRADING_DAYS:.1f} years x {len(data.bars.symbols)} assets"
    rows = tuple(_row(LABELS[name], timing) for name, timing in timings.items())
    return Result("backtest", figures, (years, "s", "low", "high"), rows)


def _row(label: str, timing: Timing) -> tuple[str, ...]:
    return (label, *(f"{s:.2f}" for s in (timing.median, timing.low, timing.high)))


class _Match:
    """What `evaluation.contest` runs, in the parts that are timed."""

    def __init__(self, society: Society, data: Dataset, mixer: Mixer, seed: int) -> None:
        self.window = BacktestWindow(data.test, society.settings, society.cash_rate)
        names = baselines.names(society.mandates)
        self.rules = tuple(name for name in names if name not in OPTIMISED)
        self._society, self._data, self._mixer = society, data, mixer
        self._policies: Policies = dict(society.new_networks(seed))

    def backtest(self) -> None:
        """Run the agents, then their ensemble beside the rule baselines."""
        data, society = self._data, self._society
        agents = run_agents(
            data.bars, society.market, self.window, society.mandates, self._policies
        )
        mixed = ensemble_schedules(agents, self._mixer, data.regime[self.window.rows])
        self._run({**self._schedules(self.rules), "ensemble": mixed})

    def contest(self) -> None:
        """Run what a report is made of."""
        known = {name: scales[0] for name, scales in self._schedules(self.rules).items()}
        run_contest(
            self._data,
            self._society.market,
            self.window,
            self._society.mandates,
            self._policies,
            self._mixer,
            known,
            {},
        )

    def optimisers(self) -> None:
        """Fit the optimisers every month and run what they ask for."""
        self._run(self._schedules(OPTIMISED))

    def _run(self, schedules: dict[str, tuple[Schedule, ...]]) -> None:
        run_schedules(self._data.bars, self._society.market, self.window, schedules)

    def _schedules(self, names: Iterable[str]) -> dict[str, tuple[Schedule, ...]]:
        """Return each baseline's schedule once for every cost scale."""
        data, mandates = self._data, self._society.mandates
        scales = len(self.window.cost_scales)
        return {
            name: (baselines.build(name, data, data.test, mandates),) * scales for name in names
        }
