import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.access.errors import NotAnswered, Reason
from serving.allocation import answer, decision_id, distance
from serving.decisions import DecisionLog
from serving.messages import parse
from serving.questions import Opinion, Question

QUESTION = parse(b'{"account": {"id": "fund-1", "cash": 10, "positions": {}}}')
# Of millionths: half of the smallest float is 0, and no account holds so little of anything.
books = st.dictionaries(st.sampled_from("ABCD"), st.integers(0, 10**6).map(lambda n: n / 10**6))
Opine = Callable[..., Opinion]


@pytest.fixture
def opinion(opine: Opine) -> Opinion:
    return opine(Question("2022-12-28", "fund-1", None))


@given(st.lists(st.tuples(st.none() | st.text(), st.text(), st.text(), st.text()), unique=True))
def test_each_part_of_a_question_is_in_its_identity(
    parts: list[tuple[str | None, str, str, str]],
) -> None:
    ids = {decision_id(a, day, sha, body.encode("utf-8", "replace")) for a, day, sha, body in parts}
    distinct = {(a, d, s, b.encode("utf-8", "replace")) for a, d, s, b in parts}
    assert len(ids) == len(distinct)


def test_the_same_question_gets_the_same_bytes_but_for_age_and_seconds(
    log: DecisionLog, opinion: Opinion
) -> None:
    first = asyncio.run(answer(log, QUESTION, opinion))
    later = replace(opinion, data_age=3, seconds={"opinion": 9.0})
    second = asyncio.run(answer(log, QUESTION, later))
    assert (first.new, second.new) == (True, False)
    assert second.answer["diagnostics"]["data_age"] == 3
    assert second.answer["diagnostics"]["seconds"] == {"opinion": 9.0}
    second.answer["diagnostics"] |= {"data_age": 0, "seconds": opinion.seconds}
    assert json.dumps(second.answer) == json.dumps(first.answer)


def test_an_answer_once_given_is_kept_whatever_the_model_says_later(
    log: DecisionLog, opinion: Opinion
) -> None:
    first = asyncio.run(answer(log, QUESTION, opinion))
    moved = replace(opinion, weights={"AAPL": 1.0, "CASH": 0.0})
    assert asyncio.run(answer(log, QUESTION, moved)).answer["weights"] == first.answer["weights"]


@pytest.mark.parametrize(
    "weights",
    [
        {"AAPL": 1.0},
        {"AAPL": 0.9, "CASH": 0.0},
        {"AAPL": float("nan"), "CASH": 0.1},
        {"AAPL": float("inf"), "CASH": 0.1},
        {"AAPL": 1.00001, "CASH": 0.0},
        {},
    ],
)
def test_weights_that_are_no_whole_are_not_published(
    log: DecisionLog, opinion: Opinion, weights: dict[str, float]
) -> None:
    with pytest.raises(NotAnswered) as caught:
        asyncio.run(answer(log, QUESTION, replace(opinion, weights=weights)))
    assert caught.value.reason is Reason.internal


@given(one=books, other=books)
def test_a_distance_is_symmetric_and_zero_only_between_equal_books(
    one: dict[str, float], other: dict[str, float]
) -> None:
    assert distance(one, other) == distance(other, one) >= 0.0
    names = {*one, *other}
    same = all(one.get(name, 0.0) == other.get(name, 0.0) for name in names)
    assert (distance(one, other) == 0.0) == same
