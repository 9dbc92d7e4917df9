from importlib.metadata import version

import pytest

from cli.__main__ import VERBS


def test_the_version_is_that_of_the_distribution(tercet):
    assert tercet("--version").out == f"tercet {version('tercet')}\n"


def test_the_usage_names_every_verb(tercet):
    result = tercet("--help")
    assert result.code == 0
    assert all(f"  {verb} " in result.out for verb in VERBS)


def test_without_a_verb_the_usage_is_shown_as_an_error(tercet):
    assert tercet().code == 2


def test_doctor_finds_this_installation_in_order(tercet):
    result = tercet("doctor")
    assert result.code == 0
    assert "embedded: 20 symbols" in result.out


def test_doctor_fails_where_the_market_does_not_load(tercet):
    with pytest.raises(SystemExit) as stopped:
        tercet("doctor", "market=files", "market.path=nowhere.csv")
    assert stopped.value.code == 1
