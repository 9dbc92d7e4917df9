"""What a search says of its trials: the best is one that was judged to its end."""

import math
from dataclasses import replace

import pytest

from evaluation.trial_ledger import State, Tried
from market.errors import InputError
from training.tune import summarised

DEFAULT = {"algorithm.anchor": 0.3}
BLANK = Tried("search", "00000", "a", "prices", 1, DEFAULT)


def tried(number: int, score: float | None, state: State, error: float | None = 0.5) -> Tried:
    settings = DEFAULT if number == 0 else {"algorithm.anchor": float(number)}
    return replace(
        BLANK,
        trial=f"{number:05d}",
        configuration=str(number),
        settings=settings,
        score=score,
        standard_error=error,
        state=state,
    )


def test_the_best_reached_its_end_and_stands_beside_the_default() -> None:
    rows = [
        tried(0, 0.2, State.done),
        tried(1, 0.9, State.stopped),
        tried(2, 0.6, State.done),
        tried(3, 0.8, State.left),
        tried(4, None, State.failed),
    ]
    found = summarised(rows, DEFAULT, 7)
    assert found["best"]["trial"] == "00002"
    assert found["default"]["score"] == 0.2
    assert found["states"] == {
        "running": 0, "done": 2, "stopped": 1, "left": 1, "failed": 1, "trained": 0,
    }  # fmt: skip
    assert (found["trials"], found["configurations"], found["compared"]) == (5, 5, 7)


def test_what_was_tried_on_the_data_before_is_taken_off_the_best() -> None:
    rows = [tried(0, 0.2, State.done), tried(1, 0.6, State.done), tried(2, 0.4, State.done)]
    first, after_others = (summarised(rows, DEFAULT, count)["deflated"] for count in (3, 500))
    # The scores have a deviation of 0.2; the best of 500 normal numbers is about 3.05.
    assert after_others == pytest.approx(
        0.5 * (1.0 + math.erf((0.6 - 0.61) / 0.5 / 2**0.5)), abs=2e-3
    )
    assert after_others < first < 0.885, "1.2 standard errors without any deflation"


def test_a_score_without_an_error_has_no_probability() -> None:
    assert summarised([tried(0, 0.0, State.done, None)], DEFAULT, 1)["deflated"] is None


def test_a_search_without_a_finished_trial_says_why() -> None:
    rows = [replace(tried(0, None, State.failed), error="market.train: too short")]
    with pytest.raises(InputError, match=r"reached its end: market\.train: too short"):
        summarised(rows, DEFAULT, 1)
