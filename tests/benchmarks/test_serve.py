"""What the benchmark calls wrong, an error, and slow."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.callers import Answer, Load
from benchmarks.serve import Figures, Round, _questions
from serving.allocation import allocation, decision_id
from serving.messages import canonical, parse
from serving.questions import Opinion

OPINION = Opinion(
    model={"id": "a" * 12, "sha256": "a" * 64},
    data_sha256="d" * 64,
    as_of="2022-12-28",
    expires_at="2022-12-29T15:30:00+00:00",
    weights={"AAPL": 0.25, "XOM": 0.5, "CASH": 0.25},
    agents={
        "balanced": {
            "weights": {"AAPL": 0.25, "XOM": 0.5, "CASH": 0.25},
            "share": 1.0,
            "confidence": None,
            "breaches_before_projection": ["max_weight"],
        }
    },
    market={"regime": "calm"},
    missing=(),
    rebalance=True,
    explanation={},
    data_age=3,
    seconds={"opinion": 0.1},
)
QUESTIONS = _questions("2022-12-28", 2, 3, "test")


def right_answers() -> list[list[dict[str, Any]]]:
    given = []
    for bodies in QUESTIONS:
        before, answers = None, []
        for body in bodies:
            asked = parse(body)
            assert asked.account is not None
            account = asked.account.id
            identity = decision_id(account, "2022-12-28", "a" * 64, canonical(asked))
            answers.append({**allocation(identity, OPINION), "supersedes": before})
            before = identity
        given.append(answers)
    return json.loads(json.dumps(given))


def judged(answers: list[list[dict[str, Any]]], status: int = 200, ms: float = 3.0) -> Figures:
    ours = tuple(
        tuple(Answer(ms / 1e3, 200, json.dumps(said).encode()) for said in given)
        for given in answers
    )
    ours = (ours[0], (*ours[1][:2], Answer(ms / 1e3, status, ours[1][2].body)))
    empty = ((Answer(0.002, 200, b"{}"),) * 3,) * 2
    return Figures.of([Round(QUESTIONS, Load(0.5, ours), Load(0.5, empty))], OPINION)


def test_right_answers_are_neither_wrong_nor_errors():
    found = judged(right_answers())
    assert (found.wrong, found.errors, found.answers) == (0, 0, 6)
    assert (found.p50_ms, found.empty_p50_ms, found.of_empty_app) == (3.0, 2.0, 1.5)
    assert found.rps == 12.0


def move(weights: dict[str, float], by: float) -> None:
    weights["AAPL"] += by
    weights["CASH"] -= by


@pytest.mark.parametrize(
    "spoil",
    [
        lambda said: move(said["weights"], 1e-5),
        lambda said: move(said["agents"]["balanced"]["weights"], 1e-5),
        lambda said: said["weights"].pop("XOM"),
        lambda said: said["agents"].pop("balanced"),
        lambda said: said["model"].update(sha256="b" * 64),
        lambda said: said.update(decision_id="0" * 64),
        lambda said: said.update(supersedes="0" * 64),
        lambda said: said.update(expires_at="2022-12-30T15:30:00+00:00"),
        lambda said: said["agents"]["balanced"].update(confidence=0.5),
    ],
)
def test_one_answer_that_differs_is_wrong(spoil: Callable[[dict[str, Any]], None]):
    answers = right_answers()
    spoil(answers[1][2])
    assert judged(answers).wrong == 1


def test_weights_may_differ_by_the_rounding_and_times_at_will():
    answers = right_answers()
    move(answers[0][0]["weights"], 1e-7)
    answers[0][0]["diagnostics"]["seconds"] = {"opinion": 9.0}
    assert judged(answers).wrong == 0


def test_a_question_answered_as_another_is_wrong():
    answers = right_answers()
    answers[0][1], answers[0][2] = answers[0][2], answers[0][1]
    assert judged(answers).wrong == 2


def test_any_other_status_is_an_error_and_no_time_of_it_counts():
    found = judged(right_answers(), status=503)
    assert (found.errors, found.wrong, found.rps) == (1, 0, 10.0)


def test_no_two_questions_are_alike():
    bodies = [body for given in _questions("2022-12-28", 5, 40, "a") for body in given]
    bodies += [body for given in _questions("2022-12-28", 5, 40, "b") for body in given]
    assert len({canonical(parse(body)) for body in bodies}) == 400


def test_an_application_that_answers_nothing_is_no_yardstick():
    nothing = Load(0.5, ((Answer(0.1, 0, b"gone"),) * 3,) * 2)
    with pytest.raises(RuntimeError, match="gone"):
        Figures.of([Round(QUESTIONS, nothing, nothing)], OPINION)
