"""Inner validation: whether a stage is kept, judged on sessions that its training never saw.

The window of a decision is the last part of the train rows; the sealed test window plays no part.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.networks import PolicyNetwork
from evaluation.backtest import AgentsResult, AgentsRun, BacktestWindow, run_agents_together
from evaluation.statistics import newey_west_lags, newey_west_standard_error
from market.bars import TRADING_DAYS, Bars, FloatArray
from market.errors import InputError
from risk import measures
from training.settings import SelectionSettings
from training.society import Society

SHORTEST_VALIDATION = 63  # sessions; less decides nothing

Networks = Mapping[str, PolicyNetwork | None]  # by policy; None plays the rule


@dataclass(frozen=True, slots=True)
class Decision:
    """What inner validation says about one stage of one policy.

    Args:
        stage: "warm_start" or "rl".
        previous: the stage that it was compared with.
        excess: annual beta-hedged net return over the previous stage, a fraction, mean over the
            policy's agents.
        standard_error: of `excess`.
        threshold: standard errors that it had to exceed.
        sessions: length of the validation.
    """

    stage: str
    previous: str
    excess: float
    standard_error: float
    threshold: float
    sessions: int

    @property
    def kept(self) -> bool:
        """Return whether the stage is kept; an undefined excess is not."""
        return self.excess > self.threshold * self.standard_error

    def __str__(self) -> str:
        verdict = "kept" if self.kept else "dropped"
        return (
            f"{verdict}: {self.excess:+.2%} a year over {self.previous} in {self.sessions} "
            f"sessions of inner validation, standard error {self.standard_error:.2%}, threshold "
            f"{self.threshold:g} standard errors"
        )


def inner_windows(train: slice, settings: SelectionSettings) -> tuple[slice, slice]:
    """Return the rows of inner training and inner validation, an embargo apart.

    Raises:
        InputError: if the train window is too short to validate anything.
    """
    length = train.stop - train.start
    validation = slice(train.stop - round(length * settings.validation_fraction), train.stop)
    inner = slice(train.start, validation.start - settings.embargo)
    if validation.stop - validation.start < SHORTEST_VALIDATION or inner.stop <= inner.start:
        raise InputError(
            f"market.train: {length} sessions are too few to validate on "
            f"{settings.validation_fraction:.0%} of them after an embargo of {settings.embargo}"
        )
    return inner, validation


def validate(bars: Bars, society: Society, rows: slice, networks: Networks) -> AgentsResult:
    """Let the policies trade through the rows, with costs, by their mean actions."""
    (result,) = validate_together(bars, society, rows, [networks])
    return result


def validate_together(
    bars: Bars, society: Society, rows: slice, choices: Sequence[Networks]
) -> list[AgentsResult]:
    """Return what `validate` does for each choice of policies, from one batched pass."""
    window = BacktestWindow(rows, society.settings, society.cash_rate, (1.0,))
    runs = [AgentsRun(window, networks) for networks in choices]
    return run_agents_together(bars, society.market, society.mandates, runs)


def decide(
    society: Society,
    rows: slice,
    stage: str,
    candidate: AgentsResult,
    previous: AgentsResult,
    previous_names: Mapping[str, str],
    threshold: float,
) -> dict[str, Decision]:
    """Compare a stage with the one that it would replace, policy by policy.

    Args:
        society: who plays whom.
        rows: of the validation.
        stage: name of the candidate.
        candidate: its books.
        previous: the books of what is kept so far.
        previous_names: policy -> what is kept so far.
        threshold: standard errors.
    """
    reference = society.market.reference_return[rows].cpu().numpy()[1:]
    decisions = {}
    for policy, agents in society.policies.items():
        names = [society.mandates[agent].name for agent in agents]
        difference = np.mean([_returns(candidate, n) - _returns(previous, n) for n in names], 0)
        excess, error = hedged_mean(difference, reference)
        decisions[policy] = Decision(
            stage, previous_names[policy], excess, error, threshold, len(difference)
        )
    return decisions


def hedged_mean(difference: FloatArray, reference: FloatArray) -> tuple[float, float]:
    """Return the annual mean of what beta to the reference does not explain, and its error.

    Args:
        difference: (T,) daily returns of a stage less those of the one before.
        reference: (T,) of equal weight.

    Returns:
        Both NaN where the two stages are one and the same.
    """
    if not float(difference.std()) > measures.CONSTANT:
        return math.nan, math.nan
    active = difference - measures.beta(difference, reference) * reference
    error = newey_west_standard_error(active, newey_west_lags(len(active)))
    return float(active.mean()) * TRADING_DAYS, error * TRADING_DAYS


def _returns(result: AgentsResult, name: str) -> FloatArray:
    nav = result.books[name][0].nav
    return nav[1:] / nav[:-1] - 1.0
