"""Which accounts a challenger serves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.access.errors import NotAnswered
from serving.questions import Question
from serving.routing import ModelRole, Wanted, described, in_shadow, place, role_for

NAMES = st.text(min_size=1, max_size=20)
SHARES = st.floats(0.0, 1.0)


@given(NAMES, SHARES, SHARES)
def test_a_larger_share_keeps_the_accounts_of_a_smaller_one(
    account: str, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    assert place(account, large) or not place(account, small)


@given(NAMES)
def test_no_share_is_nobody_and_all_of_it_is_everybody(account: str) -> None:
    assert not place(account, 0.0) and place(account, 1.0)


def test_a_share_of_accounts_is_about_that_share() -> None:
    count = sum(place(f"account-{i}", 0.25) for i in range(4000))
    assert count == pytest.approx(1000, abs=4 * (4000 * 0.25 * 0.75) ** 0.5)


def test_advice_to_nobody_is_the_champions() -> None:
    wanted = Wanted("a" * 64, "b" * 64, 1.0, "v1")
    assert role_for(Question(None, None, None), wanted) is ModelRole.champion
    assert role_for(Question(None, "me", None), wanted) is ModelRole.challenger


def test_without_a_champion_not_even_the_challengers_accounts_are_answered() -> None:
    with pytest.raises(NotAnswered):
        role_for(Question(None, "me", None), Wanted(None, "b" * 64, 1.0, "v1"))


def test_a_canary_is_no_shadow() -> None:
    assert in_shadow(Wanted("a" * 64, "b" * 64, 0.0, "v1"))
    assert not in_shadow(Wanted("a" * 64, "b" * 64, 0.1, "v1"))
    assert not in_shadow(Wanted("a" * 64, None, 0.0, "v1"))


def test_a_role_that_is_empty_and_not_wanted_is_not_described() -> None:
    empty = {"role": "challenger", "sha256": None, "wanted": None}
    full = {"role": "champion", "sha256": "a" * 64, "wanted": "a" * 64}
    assert described([full, empty], 0.0) == [{**full, "share": 1.0}]
