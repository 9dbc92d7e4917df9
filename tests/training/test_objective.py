"""What a search maximises: its folds, and that nothing of the test window reaches it."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.build import build
from market.dataset import Dataset
from market.errors import InputError
from market.load import windows
from market.prepare import prepare
from training.configuration import Configuration
from training.objective import Score, inner_folds, score, sealed
from training.selection import inner_windows
from training.settings import NoAlgorithm, NoPretrain, SelectionSettings
from training.train import make_society
from training.trial import Pupil
from training.trial_state import TrialStates

SELECTION = SelectionSettings(validation_fraction=0.2, embargo=21)


@given(
    start=st.integers(0, 500),
    length=st.integers(1000, 8000),
    count=st.integers(1, 3),
    embargo=st.integers(0, 60),
)
def test_folds_tile_the_validation_rows_and_learn_an_embargo_before_them(
    start: int, length: int, count: int, embargo: int
) -> None:
    train = slice(start, start + length)
    settings = SelectionSettings(validation_fraction=0.25, embargo=embargo)
    folds = inner_folds(train, settings, count)
    assert len(folds) == count
    assert folds[0].judged.start == train.stop - round(length * 0.25)
    assert folds[-1].judged.stop == train.stop
    for one, following in pairwise(folds):
        assert one.judged.stop == following.judged.start
    assert all(fold.learned.stop == fold.judged.start - embargo for fold in folds)
    assert all(fold.learned.start == train.start for fold in folds)


def test_a_single_fold_is_the_inner_validation_of_a_run() -> None:
    (fold,) = inner_folds(slice(100, 2000), SELECTION, 1)
    assert (fold.learned, fold.judged) == inner_windows(slice(100, 2000), SELECTION)


def test_folds_that_are_too_short_to_say_anything_are_refused() -> None:
    with pytest.raises(InputError, match=r"tune\.folds=7: 2000 sessions .* leave 57 to each"):
        inner_folds(slice(0, 2000), SELECTION, 7)


def poisoned(config: Configuration) -> Dataset:
    """Return the configured market with another test window."""
    bars = build(config.market, config.quality, config.features).bars
    train, test = windows(bars, config.market)
    random = np.random.default_rng(5)
    changed: dict[str, Any] = {}
    for name in ("open", "high", "low", "close", "volume"):
        array = np.array(getattr(bars, name))
        array[train.stop :] *= random.uniform(0.2, 5.0, size=(len(array) - train.stop, 1))
        changed[name] = array
    listed = np.array(bars.listed)
    listed[train.stop + 40 :, 0] = False  # one of them is delisted, too
    tradable = bars.tradable & listed
    return prepare(
        replace(bars, listed=listed, tradable=tradable, **changed),
        train,
        test,
        config.features,
        config.market.assumed_adv,
        None,
    )


@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize("learns", [False, True])
def test_no_value_of_the_test_window_moves_a_score_by_one_bit(
    configuration: Callable[..., Configuration], tmp_path: Path, learns: bool
) -> None:
    config = configuration()
    if not learns:
        config = replace(config, algorithm=NoAlgorithm())
    data, other = build(config.market, config.quality, config.features), poisoned(config)
    assert data.bars.sha256 != other.bars.sha256
    assert (data.asset_features[data.test] != other.asset_features[data.test]).any()
    folds = inner_folds(data.train, config.selection, 1)

    def judged(market: Dataset, name: str) -> Score:
        (tmp_path / name).mkdir()
        return Pupil(config, market, folds, 1, tmp_path / name).climb(1)

    honest = judged(sealed(data), "sealed")
    assert honest == judged(sealed(other), "poisoned")
    assert honest == judged(other, "not even sealed")
    assert honest.value != 0.0


def test_a_sealed_market_ends_with_its_train_window(
    configuration: Callable[..., Configuration],
) -> None:
    config = configuration()
    data = build(config.market, config.quality, config.features)
    closed = sealed(data)
    assert closed.bars.dates[-1] == data.bars.dates[data.train.stop - 1]
    assert closed.test.stop == closed.test.start
    sessions = data.train.stop
    for name in ("asset_features", "market_features", "volatility", "beta", "regime", "adv"):
        assert len(getattr(closed, name)) == sessions, name
    assert len(closed.bars.close) == len(closed.bars.tradable) == sessions


def test_policies_that_cannot_be_told_from_equal_weight_score_nothing(
    configuration: Callable[..., Configuration],
) -> None:
    config = configuration()
    data = build(config.market, config.quality, config.features)
    society = make_society(data, config)
    folds = inner_folds(data.train, config.selection, 1)
    still = replace(data, bars=replace(data.bars, tradable=np.zeros_like(data.bars.tradable)))
    nothing = make_society(still, config)
    networks = [society.new_networks(1)]
    assert score(data, nothing, folds, networks).value == 0.0
    assert score(data, society, folds, networks).value != 0.0


def test_a_configuration_that_trains_nothing_is_refused(
    configuration: Callable[..., Configuration], tmp_path: Path
) -> None:
    config = configuration(algorithm=NoAlgorithm(), pretrain=NoPretrain())
    data = build(config.market, config.quality, config.features)
    with pytest.raises(InputError, match="trains nothing to judge"):
        Pupil(config, data, inner_folds(data.train, config.selection, 1), 1, tmp_path)


@pytest.mark.usefixtures("ray_here")
def test_a_pupil_that_goes_on_from_its_state_ends_where_one_without_a_stop_does(
    configuration: Callable[..., Configuration], tmp_path: Path
) -> None:
    config = configuration()
    data = sealed(build(config.market, config.quality, config.features))
    folds = inner_folds(data.train, config.selection, 1)
    places = [tmp_path / name for name in ("whole", "first", "second", "kept")]
    for place in places:
        place.mkdir()
    states = TrialStates(places[3], None, "search")
    whole = Pupil(config, data, folds, 2, places[0])
    expected = [whole.climb(rung) for rung in whole.ahead()]
    first = Pupil(config, data, folds, 2, places[1])
    assert first.climb(1) == expected[0]
    states.keep("00007", places[1], 1)

    second = Pupil(config, data, folds, 2, places[2])
    kept = states.last("00007")
    assert kept is not None
    second.take_over(kept)
    assert second.ahead() == [2]
    assert second.climb(2) == expected[1] != expected[0]
