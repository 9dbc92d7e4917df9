"""What a search maximises: the score of trained policies on inner folds, out of their sample.

The folds lie at the end of the train window, and what is learned from ends an embargo before each.
A trial is given the market only up to the end of the train window: the sealed test window is not in
its memory, so nothing that a search finds can come from there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from agents.networks import PolicyNetwork
from evaluation.statistics import active_information_ratio
from market.bars import TRADING_DAYS, FloatArray
from market.dataset import Dataset
from market.errors import InputError
from training.selection import SHORTEST_VALIDATION, validate
from training.settings import SelectionSettings
from training.society import Society


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows to learn from, and the rows after them to be judged on.

    Args:
        name: of the part of the seed tree.
        learned: inner training.
        judged: inner validation.
    """

    name: str
    learned: slice
    judged: slice


@dataclass(frozen=True, slots=True)
class Score:
    """Annual information ratio of what beta to equal weight does not explain, net of costs.

    Args:
        value: over all folds; 0 where it is undefined, as for policies that hold no positions.
        standard_error: NaN where it is undefined.
    """

    value: float
    standard_error: float


def inner_folds(train: slice, settings: SelectionSettings, count: int) -> list[Fold]:
    """Return folds whose judged rows are the validation rows of `train`, cut into equal parts.

    Each learns from all rows before its own, but for the embargo; a single fold is that of
    `selection.inner_windows`.

    Raises:
        InputError: if the folds would be too short to validate anything.
    """
    length = train.stop - train.start
    edges = np.linspace(
        train.stop - round(length * settings.validation_fraction), train.stop, count + 1
    )
    cuts = [round(float(edge)) for edge in edges]
    folds = [
        Fold(
            f"fold{i}", slice(train.start, cuts[i] - settings.embargo), slice(cuts[i], cuts[i + 1])
        )
        for i in range(count)
    ]
    shortest = min(fold.judged.stop - fold.judged.start for fold in folds)
    if shortest < SHORTEST_VALIDATION or folds[0].learned.stop <= folds[0].learned.start:
        raise InputError(
            f"tune.folds={count}: {length} sessions of market.train leave {shortest} to each fold, "
            f"of which at least {SHORTEST_VALIDATION} are needed"
        )
    return folds


def sealed(data: Dataset) -> Dataset:
    """Return a market that ends with its train window; the test window is empty.

    No row before the cut changes: every array is causal.
    """
    end = data.train.stop
    rows: dict[str, Any] = {
        item.name: value[:end]
        for item in fields(data)
        if isinstance(value := getattr(data, item.name), np.ndarray)
    }
    return replace(data, bars=data.bars.select(slice(0, end)), test=slice(end, end), **rows)


def score(
    data: Dataset,
    society: Society,
    folds: Sequence[Fold],
    networks: Sequence[Mapping[str, PolicyNetwork]],
) -> Score:
    """Judge the policies of each fold on its rows.

    The agents are weighted alike, and the folds are one series.

    Args:
        data: the market.
        society: who plays whom.
        folds: of the trial.
        networks: by policy, one entry per fold.
    """
    ours, theirs = [], []
    for fold, policies in zip(folds, networks, strict=True):
        books = validate(data.bars, society, fold.judged, policies).books
        ours.append(np.mean([_returns(by_scale[0].nav) for by_scale in books.values()], axis=0))
        theirs.append(society.market.reference_return[fold.judged].cpu().numpy()[1:])
    ratio = active_information_ratio(np.concatenate(ours), np.concatenate(theirs), TRADING_DAYS)
    if math.isnan(ratio.value):
        return Score(0.0, math.nan)
    return Score(ratio.value, ratio.standard_error)


def _returns(nav: FloatArray) -> FloatArray:
    return nav[1:] / nav[:-1] - 1.0
