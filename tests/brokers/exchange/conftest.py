"""An exchange without HTTP around it, on two days whose every price is known."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brokers.exchange.exchange import Exchange
from market.bars import Bars

OPEN = datetime(2023, 6, 1, 13, 30, tzinfo=UTC)


@pytest.fixture(scope="session")
def known_days() -> Bars:
    """Return Thursday and Friday of two names, A as below and B always at 50.

    A runs on Thursday from 100 over 90 and 110 to 105 and on Friday from 105 over 120 and 80 to
    84, a third of the 390 minutes for each line.
    """

    def column(*values: float) -> np.ndarray:
        return np.array([values, [50.0] * len(values)]).T

    return Bars(
        dates=np.array(["2023-05-31", "2023-06-01", "2023-06-02"], dtype="datetime64[D]"),
        symbols=("A", "B"),
        close=column(100.0, 105.0, 84.0),
        tradable=np.ones((3, 2), dtype=bool),
        listed=np.ones((3, 2), dtype=bool),
        open=column(100.0, 100.0, 105.0),
        high=column(100.0, 110.0, 120.0),
        low=column(100.0, 90.0, 80.0),
    )


@pytest.fixture
def make_exchange(
    known_days: Bars, tmp_path: Path, settings_with: Callable[..., Any]
) -> Iterator[Callable[..., Exchange]]:
    """Return a function that gives an exchange at Thursday's open, without spread or costs."""
    with ExitStack() as stack:

        def make(**changes: Any) -> Exchange:
            plain = {"half_spread_bp": 0.0, "start": OPEN.isoformat()}
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite"
            exchange = Exchange(path, known_days, "XNYS", settings_with(**(plain | changes)))
            stack.callback(exchange.close)
            return exchange

        yield make


@pytest.fixture
def exchange(make_exchange: Callable[..., Exchange]) -> Exchange:
    """Return an exchange at Thursday's open."""
    return make_exchange()


@pytest.fixture
def minute() -> Callable[[Exchange, float], None]:
    """Return a function that lets time pass up to a minute after Thursday's open."""

    def go(exchange: Exchange, minutes: float) -> None:
        exchange.move_clock(OPEN + timedelta(minutes=minutes))

    return go
