"""Two legs never share an id, and one leg has the same id in every process."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.gateway.identity import client_order_id
from risk.gateway.records import Side

ROOT = Path(__file__).parents[3]
words = st.text(min_size=1, max_size=8)
legs = st.tuples(words, words, words, st.sampled_from(Side), st.integers(0, 500))
LEG = ("PA1", "d" * 64, "SPY", Side.buy, 0)


@given(legs, legs)
def test_different_legs_have_different_ids(one: Any, other: Any) -> None:
    assert (client_order_id(*one) == client_order_id(*other)) is (one == other)


@given(words, words, words, words)
def test_moving_a_letter_from_part_to_part_changes_the_id(a: str, b: str, c: str, d: str) -> None:
    one = client_order_id(a + b, c, d, Side.buy, 0)
    other = client_order_id(a, b + c, d, Side.buy, 0)
    assert (one == other) is ((a + b, c) == (a, b + c))


@given(legs)
def test_an_id_has_36_plain_characters(leg: Any) -> None:
    found = client_order_id(*leg)
    assert len(found) == 36
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize("row", range(5))
def test_every_part_is_in_the_id(row: int) -> None:
    other: list[Any] = list(LEG)
    other[row] = ("PA2", "e" * 64, "SPX", Side.sell, 1)[row]
    assert client_order_id(*other) != client_order_id(*LEG)


def test_another_process_finds_the_same_id() -> None:
    script = (
        "from risk.gateway.identity import *; print(client_order_id('PA1','d'*64,'SPY',Side.buy,0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == client_order_id(*LEG) == "tercet-m2c6d6lgjfr3wekzjpeq2xebumqt6"


@pytest.mark.parametrize(
    "leg",
    [
        ("", *LEG[1:]),
        ("PA1", "", *LEG[2:]),
        ("PA1", "d", "", Side.buy, 0),
        (*LEG[:4], -1),
        (*LEG[:4], True),
        (*LEG[:4], 1.0),
    ],
)
def test_a_leg_that_is_none_has_no_id(leg: Any) -> None:
    with pytest.raises(ValueError, match=r"must not be empty|numbered from 0"):
        client_order_id(*leg)
