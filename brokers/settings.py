"""What a broker is configured with, and its keys, which are in the environment alone."""

import os
from dataclasses import dataclass, field
from math import isfinite
from urllib.parse import urlsplit

from market.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LONGEST_S = 60.0  # nobody waits longer for one answer


@dataclass(slots=True)
class AlpacaSettings:
    """Where Alpaca, or an exchange that speaks as it does, is found and how long it is waited for.

    Args:
        trading_url: of the trading API, without a path. Whether real money is there, the account
            itself says.
        data_url: of the market data API, without a path.
        key_variable: name of the environment variable that holds the key's id.
        secret_variable: name of the environment variable that holds the key's secret.
        connect_timeout_s: seconds for a connection, > 0.
        read_timeout_s: seconds without a byte of the answer, > 0. No request takes longer than
            both together, whatever trickles in.
    """

    trading_url: str
    data_url: str
    key_variable: str
    secret_variable: str
    connect_timeout_s: float
    read_timeout_s: float

    def __post_init__(self) -> None:
        for name in ("trading_url", "data_url"):
            _check_url(name, getattr(self, name))
        for name in ("connect_timeout_s", "read_timeout_s"):
            value = getattr(self, name)
            if not (isfinite(value) and 0.0 < value <= LONGEST_S):
                raise ValueError(f"broker.{name} must be in (0, {LONGEST_S:g}], was {value}")
        for name in ("key_variable", "secret_variable"):
            if not getattr(self, name).isidentifier():
                raise ValueError(f"broker.{name} must be the name of an environment variable")


@dataclass(frozen=True, slots=True)
class Keys:
    """What proves to a broker who asks."""

    key: str = field(repr=False)
    secret: str = field(repr=False)


def keys_from_environment(settings: AlpacaSettings) -> Keys:
    """Return the keys that the settings name.

    Raises:
        InputError: if one is not set, or cannot be sent in a header; never says its value.
    """
    return Keys(_secret(settings.key_variable), _secret(settings.secret_variable))


def missing_keys(settings: AlpacaSettings) -> tuple[str, ...]:
    """Return the names of the environment variables that are not set."""
    names = (settings.key_variable, settings.secret_variable)
    return tuple(name for name in names if not os.environ.get(name))


def _secret(variable: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise InputError(f"the environment variable {variable} is not set: the broker's key")
    # Another character would be refused by the HTTP library in a message that quotes the value.
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise InputError(f"the environment variable {variable} holds blanks or odd characters")
    return value


def _check_url(name: str, url: str) -> None:
    parts = urlsplit(url)
    if not parts.hostname or parts.path or parts.query or parts.fragment or parts.username:
        raise ValueError(f"broker.{name} must be scheme://host[:port] and no more, was {url!r}")
    # Keys and orders never cross a network in the clear.
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ValueError(f"broker.{name} must use https unless it is this machine, was {url!r}")
