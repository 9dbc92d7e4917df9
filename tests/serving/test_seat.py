"""What is wanted is followed whole, late or not at all; nobody is answered by half a model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from agents.manifest import HASHES, PARAMETERS, Contents, read_verified
from market.features import FeatureSpec
from risk.access.errors import NotAnswered, Reason
from serving.questions import Question
from serving.routing import ModelRole, Wanted
from serving.seat import Seat
from serving.sources import Snapshot, Universe

TODAY = Question(None, None, None)


@dataclass
class Shelf:
    """Sources that a test changes: they compute, and fail where they are told to."""

    world: Any
    known: dict[str, Contents]
    now: Wanted
    silent: bool = False
    data_problem: NotAnswered | None = None
    loads: int = 0

    def wanted(self) -> Wanted:
        if self.silent:
            raise NotAnswered(Reason.replica_failed, "nobody answers")
        return self.now

    def contents(self, sha256: str) -> Contents:
        return self.known[sha256]

    def snapshot(self, features: FeatureSpec, universe: Universe) -> Snapshot:
        if self.data_problem is not None:
            raise self.data_problem
        self.loads += 1
        return Snapshot(self.now.market, self.world.data)


@pytest.fixture
def shelf(world: Any) -> Shelf:
    both = [read_verified(world.artefact(seed), None) for seed in (1, 2)]
    wanted = Wanted(both[0].sha256, None, 0.0, "v1")
    return Shelf(world, {one.sha256: one for one in both}, wanted)


@pytest.fixture
def seat_of(world: Any, shelf: Shelf) -> Callable[..., Seat]:
    def seated(role: ModelRole = ModelRole.champion, **desk: Any) -> Seat:
        settings = replace(world.serving.desk, **desk)
        env = world.config.env
        return Seat(role, shelf, settings, env, "XNYS", 0.0, lambda: world.now)

    return seated


def refused(seat: Seat, question: Question = TODAY) -> NotAnswered:
    with pytest.raises(NotAnswered) as caught:
        seat.opinion(question)
    return caught.value


def other(shelf: Shelf) -> str:
    return next(sha256 for sha256 in shelf.known if sha256 != shelf.now.champion)


def test_before_anything_is_loaded_there_is_no_model(seat_of: Callable[..., Seat]) -> None:
    assert refused(seat_of()).reason is Reason.no_model


def test_the_wanted_model_answers_and_names_itself(
    seat_of: Callable[..., Seat], shelf: Shelf
) -> None:
    seat = seat_of()
    seat.follow()
    assert seat.opinion(TODAY).model["sha256"] == shelf.now.champion
    assert seat.unready() is None


def test_a_promotion_swaps_the_whole_answer(seat_of: Callable[..., Seat], shelf: Shelf) -> None:
    seat = seat_of()
    seat.follow()
    before = seat.opinion(TODAY)
    shelf.now = replace(shelf.now, champion=other(shelf))
    assert seat.opinion(TODAY).at(0, {}) == before.at(0, {})  # not yet followed
    seat.follow()
    after = seat.opinion(TODAY)
    assert after.model["sha256"] == shelf.now.champion != before.model["sha256"]
    assert after.weights != before.weights and after.agents.keys() == before.agents.keys()


def test_nothing_is_loaded_again_while_nothing_changes(
    seat_of: Callable[..., Seat], shelf: Shelf
) -> None:
    seat = seat_of()
    for _ in range(3):
        seat.follow()
    assert shelf.loads == 1
    shelf.now = replace(shelf.now, market="v2")
    seat.follow()
    assert shelf.loads == 2


def test_a_champion_that_cannot_be_loaded_ends_the_answers_with_its_reason(
    seat_of: Callable[..., Seat], shelf: Shelf
) -> None:
    seat = seat_of()
    seat.follow()
    good = shelf.known[other(shelf)]
    flipped = bytearray(good.files[PARAMETERS])
    flipped[-1] ^= 1
    shelf.known[good.sha256] = replace(good, files={**good.files, PARAMETERS: bytes(flipped)})
    shelf.now = replace(shelf.now, champion=good.sha256)
    seat.follow()
    found = refused(seat)
    assert found.reason is Reason.stale_model and "damaged" in found.detail
    assert found.retry_after is not None
    shelf.known[good.sha256] = good
    seat.follow()
    assert seat.opinion(TODAY).model["sha256"] == good.sha256


def test_an_artefact_under_anothers_name_is_refused(
    seat_of: Callable[..., Seat], shelf: Shelf
) -> None:
    first, second = shelf.known
    shelf.known[first] = replace(shelf.known[second], sha256=first)
    seat = seat_of()
    seat.follow()
    assert refused(seat).reason is Reason.stale_model


def test_bad_data_end_the_answers_until_they_are_good(
    seat_of: Callable[..., Seat], shelf: Shelf
) -> None:
    seat = seat_of()
    seat.follow()
    shelf.now = replace(shelf.now, market="v2")
    shelf.data_problem = NotAnswered(Reason.bad_data, "AAA 2020-01-02: a price of -1")
    seat.follow()
    assert refused(seat).reason is Reason.bad_data
    shelf.data_problem = None
    seat.follow()
    assert seat.unready() is None


def test_without_word_of_what_is_wanted_the_model_grows_stale(
    seat_of: Callable[..., Seat], shelf: Shelf
) -> None:
    seat = seat_of(stale_model_s=0.05)
    seat.follow()
    shelf.silent = True
    seat.follow()
    import time

    time.sleep(0.06)
    assert refused(seat).reason is Reason.stale_model
    shelf.silent = False
    seat.follow()
    assert seat.unready() is None


def test_a_retired_challenger_is_gone(seat_of: Callable[..., Seat], shelf: Shelf) -> None:
    seat = seat_of(ModelRole.challenger)
    shelf.now = replace(shelf.now, challenger=other(shelf))
    seat.follow()
    assert seat.opinion(TODAY).model["sha256"] == other(shelf)
    shelf.now = replace(shelf.now, challenger=None)
    seat.follow()
    assert refused(seat).reason is Reason.no_model


def test_an_unknown_name_is_refused_with_the_nearest(
    seat_of: Callable[..., Seat], shelf: Shelf, world: Any
) -> None:
    seat = seat_of()
    seat.follow()
    symbol = world.data.bars.symbols[0]
    found = refused(seat, Question(None, None, (symbol, symbol[:-1] + "?")))
    assert found.reason is Reason.unknown_symbol


def test_all_names_by_name_are_the_whole_universe(
    seat_of: Callable[..., Seat], shelf: Shelf, world: Any
) -> None:
    seat = seat_of()
    seat.follow()
    every = tuple(reversed(world.data.bars.symbols))
    assert seat.opinion(Question(None, None, every)).weights == seat.opinion(TODAY).weights
    assert shelf.loads == 1


def test_a_seat_tells_what_it_holds_and_what_it_should(
    seat_of: Callable[..., Seat], shelf: Shelf, world: Any
) -> None:
    seat = seat_of()
    seat.follow()
    status = seat.status()
    assert status["sha256"] == status["wanted"] == shelf.now.champion
    assert status["data_until"] == world.last and status["problem"] is None


def test_the_files_of_an_artefact_are_all_that_travels(world: Any, tmp_path: Path) -> None:
    contents = read_verified(world.artefact(1), None)
    assert {PARAMETERS, HASHES} < set(contents.files)
    assert all(type(content) is bytes for content in contents.files.values())
