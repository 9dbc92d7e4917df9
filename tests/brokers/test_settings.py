"""Where the broker is, and its keys."""

from dataclasses import asdict

import pytest

from brokers.settings import AlpacaSettings, keys_from_environment, missing_keys
from market.errors import InputError

GOOD = {
    "trading_url": "https://paper-api.alpaca.markets",
    "data_url": "http://127.0.0.1:8010",
    "key_variable": "SOME_KEY",
    "secret_variable": "SOME_SECRET",
    "connect_timeout_s": 2.0,
    "read_timeout_s": 5.0,
}


@pytest.mark.parametrize(
    "url",
    ["", "paper-api.alpaca.markets", "http://paper-api.alpaca.markets", "https://x.y/v2",
     "https://x.y/", "https://me:secret@x.y", "https://x.y?z=1", "ftp://127.0.0.1", "https://",
     "http://127.0.0.1.evil.example", "http://10.0.0.1"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["trading_url", "data_url"])
def test_keys_go_to_a_bare_https_address_or_to_this_machine(name, url):
    with pytest.raises(ValueError, match=name):
        AlpacaSettings(**GOOD | {name: url})


@pytest.mark.parametrize("value", [0.0, -1.0, 60.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["connect_timeout_s", "read_timeout_s"])
def test_a_wait_has_an_end(name, value):
    with pytest.raises(ValueError, match=name):
        AlpacaSettings(**GOOD | {name: value})


def test_a_key_itself_is_no_name_of_a_variable():
    with pytest.raises(ValueError, match="key_variable"):
        AlpacaSettings(**GOOD | {"key_variable": "PK-123"})


def test_keys_come_from_the_environment_and_are_not_shown(monkeypatch):
    settings = AlpacaSettings(**GOOD)
    monkeypatch.setenv("SOME_KEY", "PKxyz")
    assert missing_keys(settings) == ("SOME_SECRET",)
    with pytest.raises(InputError, match="SOME_SECRET is not set"):
        keys_from_environment(settings)
    monkeypatch.setenv("SOME_SECRET", "hidden/value+1")
    keys = keys_from_environment(settings)
    assert asdict(keys) == {"key": "PKxyz", "secret": "hidden/value+1"}
    assert "hidden" not in repr(keys)
    assert missing_keys(settings) == ()


@pytest.mark.parametrize("value", ["se cret", "secret\n", "secret\r\nX: y", "sécret"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(monkeypatch, value):
    monkeypatch.setenv("SOME_KEY", value)
    monkeypatch.setenv("SOME_SECRET", "fine")
    with pytest.raises(InputError) as caught:
        keys_from_environment(AlpacaSettings(**GOOD))
    assert "cret" not in str(caught.value)
