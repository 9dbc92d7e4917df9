"""Assets are asked for now and then; what matters at the moment of sending is asked for then."""

from datetime import UTC, datetime, timedelta

from risk.gateway.broker import Unavailable
from risk.gateway.known_assets import KEPT, KnownAssets
from risk.gateway.records import Asset

NOW = datetime(2024, 3, 5, 15, 0, tzinfo=UTC)


class Directory:
    """A broker that knows assets, counts the questions, and can be out of order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.halted: set[str] = set()
        self.silent = False

    def asset(self, symbol: str) -> Asset:
        self.asked.append(symbol)
        if self.silent:
            raise Unavailable("no answer")
        return Asset(symbol, symbol not in self.halted, True, False, False)


def test_a_name_is_asked_for_once_in_a_while() -> None:
    directory = Directory()
    assets = KnownAssets(directory)  # type: ignore[arg-type]
    for seconds in (0, 5, 10):
        assert set(assets.of(["A", "B"], NOW + timedelta(seconds=seconds))) == {"A", "B"}
    assert directory.asked == ["A", "B"]
    assets.of(["A"], NOW + KEPT - timedelta(microseconds=1))
    assert directory.asked == ["A", "B"]
    assets.of(["A"], NOW + KEPT)
    assert directory.asked == ["A", "B", "A"]


def test_a_name_that_is_about_to_be_sent_is_asked_for_anew_and_only_that() -> None:
    directory = Directory()
    assets = KnownAssets(directory)  # type: ignore[arg-type]
    assets.of(["A", "B"], NOW)
    directory.halted = {"A", "B"}
    found = assets.of(["A", "B"], NOW, anew="A")
    assert directory.asked == ["A", "B", "A"]
    assert (found["A"].tradable, found["B"].tradable) == (False, True)


def test_a_halt_is_asked_after_with_every_look_so_that_its_end_is_seen() -> None:
    directory = Directory()
    assets = KnownAssets(directory)  # type: ignore[arg-type]
    directory.halted = {"A"}
    assert not assets.of(["A"], NOW)["A"].tradable
    directory.halted = set()
    assert assets.of(["A"], NOW + timedelta(seconds=1))["A"].tradable
    assert assets.of(["A"], NOW + timedelta(seconds=2))["A"].tradable
    assert directory.asked == ["A", "A"]


def test_what_the_broker_does_not_tell_is_missing_whatever_was_known_before() -> None:
    directory = Directory()
    assets = KnownAssets(directory)  # type: ignore[arg-type]
    assets.of(["A"], NOW)
    directory.silent = True
    assert assets.of(["A"], NOW, anew="A") == {}
    assert assets.of(["A"], NOW) == {}


def test_a_clock_that_is_set_back_makes_nothing_young() -> None:
    directory = Directory()
    assets = KnownAssets(directory)  # type: ignore[arg-type]
    assets.of(["A"], NOW)
    assets.of(["A"], NOW - timedelta(seconds=1))
    assert directory.asked == ["A", "A"]
