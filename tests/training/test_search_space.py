"""The search space: what is read, what is refused, and that nothing leaves it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from evaluation.trial_ledger import State, Tried
from market.errors import InputError
from training import placement
from training.placement import Bundle
from training.proposals import drawn
from training.search import AshaSearch, PbtSearch
from training.search_ray import Explorer, bundles, require_room, scheduler
from training.search_space import Choices, Range, read_space
from training.trial import RUNG, SCORE

SPACE = {
    "algorithm": {"anchor": {"low": 0.03, "high": 3.0, "log": True}},
    "pretrain": {"updates": {"low": 50, "high": 400}, "horizon": {"choices": [5, 10, 21]}},
    "agents": {"balanced": {"reward": {"downside": {"low": -0.5, "high": 0.0}}}},
}
DEFAULT = {
    "algorithm.anchor": 0.3,
    "pretrain.updates": 250,
    "pretrain.horizon": 21,
    "agents.balanced.reward.downside": -0.1,
}


def test_a_nested_space_is_read_by_its_dotted_keys() -> None:
    assert read_space(SPACE) == {
        "algorithm.anchor": Range(0.03, 3.0, log=True),
        "pretrain.updates": Range(50, 400),
        "pretrain.horizon": Choices((5, 10, 21)),
        "agents.balanced.reward.downside": Range(-0.5, 0.0),
    }


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "must name what is searched"),
        ({"pretrain": {"updates": 3}}, r"pretrain\.updates must be \{low, high, log\}"),
        ({"pretrain": {"updates": {"low": 3, "high": 3}}}, r"pretrain\.updates: low must be below"),
        ({"pretrain": {"updates": {"low": 0, "high": 3, "log": True}}}, "on a logarithmic scale"),
        ({"pretrain": {"horizon": {"choices": [5]}}}, "two or more"),
        ({"market": {"seed": {"low": 1, "high": 9}}}, r"market\.seed: trials may differ in"),
        ({"env": {"costs": {"spread_bp": {"low": 0, "high": 9}}}}, "makes the measure"),
        ({"selection": {"embargo": {"low": 0, "high": 9}}}, "makes the measure"),
        ({"seed": {"choices": [1, 2]}}, "makes the measure"),
        ({"algorithm": {"keep_if": {"low": 0.0, "high": 3.0}}}, "no trial depends on it"),
    ],
)
def test_a_space_that_cannot_be_read_or_must_not_be_searched_is_refused_by_its_key(
    space: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        read_space(space)


@given(seed=st.integers(0, 2**31), number=st.integers(1, 10_000))
def test_a_drawn_setting_lies_in_the_space_and_depends_on_its_number_alone(
    seed: int, number: int
) -> None:
    space = read_space(SPACE)
    name, setting = next(iter(drawn(space, seed, range(number, number + 1), DEFAULT).items()))
    assert all(one.holds(setting[key]) for key, one in space.items())
    assert drawn(space, seed, range(number - 1, number + 3), DEFAULT)[name] == setting


def test_trials_differ_and_the_first_is_the_default() -> None:
    settings = list(drawn(read_space(SPACE), 7, range(40), DEFAULT).values())
    assert settings[0] == DEFAULT
    assert len({one["algorithm.anchor"] for one in settings}) == 40
    assert {one["pretrain.horizon"] for one in settings} == {5, 10, 21}
    low = sum(one["algorithm.anchor"] < 0.3 for one in settings[1:])
    assert 8 < low < 31  # half of them, on a logarithmic scale


@given(seed=st.integers(0, 2**31), resample=st.sampled_from([0.0, 0.5, 1.0]))
def test_what_is_explored_stays_in_the_space_and_moves(seed: int, resample: float) -> None:
    space = read_space(SPACE)
    explore = Explorer(space, resample, seed)
    setting: dict[str, Any] = dict(DEFAULT)
    for _ in range(30):
        changed = explore(setting)
        assert set(changed) == set(space)
        assert all(one.holds(changed[key]) for key, one in space.items())
        assert changed["algorithm.anchor"] != setting["algorithm.anchor"] or setting[
            "algorithm.anchor"
        ] in (0.03, 3.0)
        setting = changed


def test_two_members_that_take_over_the_same_setting_go_different_ways() -> None:
    explore = Explorer(read_space(SPACE), 0.25, 1)
    assert explore(DEFAULT) != explore(DEFAULT)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"trials": 1}, r"tune\.trials must be >= 2, was 1"),
        ({"folds": 0}, r"tune\.folds must be >= 1"),
        ({"rungs": 0}, r"tune\.rungs must be >= 1"),
        ({"cpus_per_trial": 0.0}, r"tune\.cpus_per_trial must be > 0"),
        ({"gpus_per_trial": -1.0}, r"tune\.gpus_per_trial must be >= 0"),
        ({"quantile": 0.6}, r"tune\.quantile"),
        ({"resample": float("nan")}, r"tune\.resample"),
    ],
)
def test_a_search_that_cannot_be_is_refused_by_its_key(changed: dict[str, Any], said: str) -> None:
    values: dict[str, Any] = {
        "trials": 4,
        "folds": 2,
        "rungs": 2,
        "cpus_per_trial": 1.0,
        "gpus_per_trial": None,
        "space": SPACE,
        "quantile": 0.25,
        "resample": 0.25,
    }
    PbtSearch(**values)
    with pytest.raises(ValueError, match=said):
        PbtSearch(**{**values, **changed})


@given(value=st.one_of(st.floats(allow_nan=True), st.integers(), st.booleans(), st.text()))
def test_a_range_holds_numbers_between_its_ends_alone(value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    assert Range(-1.5, 2.5).holds(value) == (number and -1.5 <= value <= 2.5)
    whole = number and -1 <= value <= 2 and float(value).is_integer()
    assert Range(-1, 2).holds(value) == whole


def test_whole_numbers_are_drawn_to_both_ends() -> None:
    random = np.random.default_rng(1)
    assert {Range(1, 3).draw(random) for _ in range(100)} == {1, 2, 3}


def test_asha_stops_no_default_and_knows_the_trials_of_before_an_interruption() -> None:
    search = AshaSearch(9, 1, 2, 1.0, None, SPACE, reduction=3.0)

    def stopped(name: str, score: float, past: list[float]) -> bool:
        rows = [
            Tried("s", str(i), str(i), "d", 1, {}, scores={1: value}, state=State.stopped)
            for i, value in enumerate(past)
        ]
        asha = scheduler(search, 1, rows, 1)
        trial = Trial("tune", stub=True, trial_id=name)
        trial.custom_trial_name = name
        asha.on_trial_add(None, trial)
        action = asha.on_trial_result(None, trial, {RUNG: 1, SCORE: score})
        return bool(action == TrialScheduler.STOP)

    assert not stopped("00005", 0.1, [])
    assert stopped("00005", 0.1, [0.5, 0.6, 0.7])
    assert not stopped("00005", 0.8, [0.5, 0.6, 0.7])
    assert not stopped("00000", 0.1, [0.5, 0.6, 0.7])


@pytest.mark.usefixtures("ray_here")
def test_a_trial_that_no_cluster_has_room_for_is_refused_instead_of_waited_for(
    settings: Callable[..., Any],
) -> None:
    def needed(cpus: float, **values: Any) -> list[Bundle]:
        search = AshaSearch(9, 1, 2, cpus, None, SPACE, reduction=3.0)
        return bundles(search, settings("algorithm", "ppo", device="cpu", **values))

    assert needed(1.0) == [{"CPU": 1.0}]
    assert needed(0.5, num_env_runners=2) == [{"CPU": 0.5}, {"CPU": 1.0}, {"CPU": 1.0}]
    require_room(needed(1.0, num_env_runners=2))
    search = AshaSearch(9, 1, 2, 1.0, None, SPACE, reduction=3.0)
    on_cuda = bundles(search, settings("algorithm", "ppo", device="cuda", num_learners=1))
    assert on_cuda == [{"CPU": 1.0}, {"GPU": 1.0}]  # its learner has the GPU
    wanted = placement.driver_gpus(settings("algorithm", "ppo", device="cuda"))
    assert (wanted, placement.driver_gpus(settings("algorithm", "ppo", device="auto"))) == (1, 0)
    with pytest.raises(InputError, match="each trial needs 9 CPUs, there are 4"):
        require_room(needed(1.0, num_env_runners=8))
