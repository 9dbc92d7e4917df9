"""Which lives end where: all points once, and others drawn by a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.crashes.explore import Explorer
from benchmarks.crashes.faults import FAULTS, Json, on_order
from benchmarks.crashes.points import MILLISECONDS
from benchmarks.crashes.venue import ORDERS

NEAR = 15  # points from the commit that puts an order in flight to what its answer makes of it

MOMENTS_MS = 600  # within which a life is over on a machine that does nothing else
RECOVERY = ("epoch #1 ", "accounts #1 ", "accounts #2 ", "accounts #3 ", "latch #1 ")


@dataclass(frozen=True, slots=True)
class Case:
    """Lives that end one after another, and what the exchange answers wrongly meanwhile."""

    ends: tuple[str, ...]
    faults: tuple[Json, ...]


class Points:
    """The points that lives pass, as an explorer's lives have found them.

    Args:
        explorer: whose lives never end before the decision does.
    """

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer

    def of_life(self, faults: Sequence[Json] = ()) -> list[str]:
        """Return the points of a first life, in their order."""
        return self._passed(self._begin(faults))

    def after(self, end: str, faults: Sequence[Json] = ()) -> list[str]:
        """Return the points of the life that follows one that ended at a point."""
        first = self._begin(faults)
        self._passed(first)
        return self._passed(self._explorer.states[first].next[end])

    def near(self, fault: Json, number: int) -> list[Case]:
        """Return the lives that end around the n-th order, whose answer is a fault."""
        faults = (on_order(fault, number),)
        passed = self.of_life(faults)
        begin = passed.index(f"orders in_flight #{number} marking")
        return [Case((end,), faults) for end in passed[begin : begin + NEAR]]

    def _begin(self, faults: Sequence[Json]) -> str:
        """Return the first state; nothing waits in one process: what is too late never comes."""
        at_once = [{**f, "kind": "silence"} if f["kind"] == "slow" else f for f in faults]
        return self._explorer.begin(at_once)

    def _passed(self, key: str) -> list[str]:
        state = self._explorer.states[key]
        if not state.next:
            self._explorer.live(key, crashing=True)
        return list(state.next)


def singles(points: Points) -> list[Case]:
    """Return every point with good answers, and those around an order with every bad one."""
    good = [Case((end,), ()) for end in points.of_life()]
    turns = ((fault, 1 + n % ORDERS) for n, fault in enumerate(FAULTS))
    return good + [case for fault, number in turns for case in points.near(fault, number)]


def pairs(points: Points, random: Random, count: int, firsts: int) -> list[Case]:
    """Return two ends one after the other.

    Args:
        points: of lives.
        random: that draws.
        count: how many.
        firsts: how many first ends are drawn; each is followed by several second ones.
    """
    found = []
    for turn in range(firsts):
        fault = random.choice(FAULTS)
        faults = (on_order(fault, random.randint(1, ORDERS)),) if turn % 2 else ()
        first = random.choice(points.of_life(faults))
        share = count * (turn + 1) // firsts - count * turn // firsts
        seconds = random.sample(points.after(first, faults), share)
        found += [Case((first, second), faults) for second in seconds]
    return found


def moments(random: Random, count: int) -> list[Case]:
    """Return lives that end somewhere, inside a statement or a system call as well."""
    return [Case((f"{random.randint(1, MOMENTS_MS)}{MILLISECONDS}",), ()) for _ in range(count)]


def chains(points: Points, random: Random, count: int) -> list[Case]:
    """Return an end followed by one to three more, each in the recovery from the one before."""
    passed = points.of_life()
    begin = passed.index("decisions #1 marking")
    recovery = [end for end in passed[:begin] if end.startswith(RECOVERY)]
    return [
        Case((random.choice(passed[begin:]), *random.choices(recovery, k=1 + number % 3)), ())
        for number in range(count)
    ]
