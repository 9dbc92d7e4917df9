"""The gateway killed everywhere while its broker answers badly: nothing lost, doubled, mis-booked.

A basket of five orders, two sells and three buys, each filled in two parts. The exchange survives;
the gateway is restarted, recovers, and goes on until all is quiet; then its books are the
exchange's, to the share and the cent.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.crashes.books import compare
from benchmarks.crashes.cases import Case, Points, chains, moments, pairs, singles
from benchmarks.crashes.explore import Explorer, closure, sequences
from benchmarks.crashes.faults import FAULTS, HIDDEN_S, name_of, on_order
from benchmarks.crashes.in_process import Room
from benchmarks.crashes.killing import Mother, workplace
from benchmarks.crashes.life import Birth, live, url_of
from benchmarks.crashes.points import Trap, go_on
from benchmarks.crashes.venue import ORDERS
from risk.gateway.audit import FileAnchor
from risk.gateway.ledger import Ledger

SEED = 20231
# kills by a real SIGKILL: alone, in pairs, in chains of 2 to 4; in this process: alone, in pairs
DEFAULT = {
    "alone": 26, "moments": 6, "pairs": 5, "firsts": 2, "chains": 6, "here_alone": 60,
    "here_pairs": 180,
}  # fmt: skip
SOAK = {"moments": 100, "pairs": 500, "firsts": 60, "chains": 60}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with workplace() as found:
        yield found


@pytest.fixture(scope="module")
def explorer(folder: Path) -> Explorer:
    return Explorer(folder / "states", FileAnchor(folder / "anchor"))


@pytest.fixture(scope="module")
def mother(folder: Path) -> Iterator[Mother]:
    found = Mother(folder)
    yield found
    found.close()


def require_quiet(mother: Mother, cases: list[Case]) -> Counter[str]:
    """Run cases; every one must end with equal books and an audit that holds."""
    done: Counter[str] = Counter()
    for case in cases:
        found = mother.run(ends=case.ends, faults=case.faults)
        assert found.get("audit") == [], (case, found)
        assert not any(found["wrong"].values()), (case, found)
        done["cases"] += 1
        done["kills"] += found["killed"]
        done["all ends reached"] += found["killed"] == len(case.ends)
    return done


def test_a_process_killed_at_any_point_loses_no_order_and_doubles_none(
    explorer: Explorer, mother: Mother, soak: bool
) -> None:
    points, random = Points(explorer), Random(SEED)
    if soak:
        cases = singles(points)
    else:
        near = [case for n in range(3) for case in points.near(random.choice(FAULTS), 1 + 2 * n)]
        plain = [Case((end,), ()) for end in points.of_life()]
        half = DEFAULT["alone"] // 2
        cases = random.sample(plain, half) + random.sample(near, half)
    done = require_quiet(mother, cases)
    print(f"SIGKILL at single points: {dict(done)}, seed {SEED}, nothing wrong")
    assert done["kills"] == done["cases"] == len(cases)


def test_a_process_killed_at_any_moment_loses_no_order_and_doubles_none(
    mother: Mother, soak: bool
) -> None:
    random = Random(SEED + 3)
    done = require_quiet(mother, moments(random, (SOAK if soak else DEFAULT)["moments"]))
    print(f"SIGKILL at random milliseconds: {dict(done)}, seed {SEED + 3}, nothing wrong")
    assert done["kills"] >= done["cases"] // 2


def test_a_process_killed_again_in_its_recovery_converges_all_the_same(
    explorer: Explorer, mother: Mother, soak: bool
) -> None:
    points, random = Points(explorer), Random(SEED + 1)
    counts = SOAK if soak else DEFAULT
    two = pairs(points, random, counts["pairs"], counts["firsts"])
    in_a_row = chains(points, random, counts["chains"])
    done, more = require_quiet(mother, two), require_quiet(mother, in_a_row)
    print(
        f"SIGKILL twice: {dict(done)}; 2 to 4 times: {dict(more)}; seed {SEED + 1}, nothing wrong"
    )
    assert done["kills"] == 2 * len(two) and more["kills"] == sum(len(c.ends) for c in in_a_row)


def test_crashes_one_after_another_leave_equal_books(explorer: Explorer, soak: bool) -> None:
    root = explorer.begin(())
    if soak:
        states = closure(explorer, root, 2)
        alone, both = sequences(explorer, root, 1), sequences(explorer, root, 2)
    else:
        states, alone, both = sampled(explorer, root)
    wrong = [(state.after, state.wrong) for state in states if state.wrong != ()]
    assert not wrong, wrong[:3]
    print(
        f"crashes in this process: {alone} single ones, {both} ordered pairs, which leave "
        f"{len(states)} different states; a life from each, nothing wrong; seed {SEED + 2}"
    )


def sampled(explorer: Explorer, root: str) -> tuple[list[Any], int, int]:
    """Live from the states that some drawn crashes and pairs of them leave."""
    random = Random(SEED + 2)
    explorer.live(root, crashing=True)
    first = explorer.states[root]
    chosen = {first.next[end] for end in random.sample(list(first.next), DEFAULT["here_alone"])}
    pairs_left: list[str] = []
    for end in random.sample(list(first.next), len(first.next)):
        if len(pairs_left) >= DEFAULT["here_pairs"]:
            break
        pairs_left += explorer.live(first.next[end], crashing=True).next.values()
    chosen |= set(random.sample(pairs_left, DEFAULT["here_pairs"]))
    states = [explorer.live(key, crashing=False) for key in sorted(chosen)]
    return states, DEFAULT["here_alone"], DEFAULT["here_pairs"]


def test_a_crash_at_any_point_and_a_bad_answer_to_any_order_leave_equal_books(
    explorer: Explorer, soak: bool
) -> None:
    if not soak:
        pytest.skip("every bad answer with a crash at every point is tried with --soak")
    done: Counter[str] = Counter()
    for turn, fault in enumerate(FAULTS):
        # What is hidden is forgotten with the exchange's memory, and nothing waits in one process:
        # the real kills meet these two.
        if fault["kind"] in ("hide", "slow"):
            continue
        root = explorer.begin((on_order(fault, 1 + turn % ORDERS),))
        states = closure(explorer, root, 1)
        wrong = [(state.after, state.wrong) for state in states if state.wrong != ()]
        assert not wrong, (name_of(fault), wrong[:3])
        done["answers"] += 1
        done["crashes"] += sequences(explorer, root, 1)
        done["states"] += len(states)
    print(f"a bad answer and a crash in this process: {dict(done)}, nothing wrong")


class Crash(BaseException):
    """The end of a life in this process, which nothing catches; the exchange forgets nothing."""


@pytest.mark.parametrize("number", [1, 3])
def test_fills_of_an_order_that_the_broker_hides_after_a_crash_are_no_strangers(
    tmp_path: Path, number: int
) -> None:
    def passing(point: str) -> None:
        if point == f"order #{number} answered":
            raise Crash

    room, anchor = Room.new(tmp_path), FileAnchor(tmp_path / "anchor")
    hide = {"kind": "hide", "seconds": HIDDEN_S}
    room.admin("POST", "/admin/faults", on_order(hide, number))
    with pytest.raises(Crash):
        live(Birth(room, room.broker(trap := Trap(passing)), anchor, trap))
    broker = room.broker(trap := Trap(go_on))
    live(Birth(room, broker, anchor, trap))
    ledger = Ledger(url_of(tmp_path), anchor)
    assert compare(room, ledger, broker).lines() == ()
    assert ledger.latch().armed
    ledger.close()
    room.close()
