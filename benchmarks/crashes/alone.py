"""One life in a process of its own, to be watched from outside: `... alone <folder> <url>`."""

import sys
from pathlib import Path

from benchmarks.crashes.life import Birth, live
from benchmarks.crashes.mother import Outside
from benchmarks.crashes.points import Trap, TrappedBroker, go_on
from benchmarks.crashes.venue import KEYS, client
from risk.gateway.audit import FileAnchor

PATIENCE_S = 30.0  # whoever watches makes everything slow


def main(folder: Path, url: str) -> None:
    """Live to the end of the decision."""
    trap = Trap(go_on)
    broker = TrappedBroker(client(url, PATIENCE_S), KEYS, trap, lambda: False)
    live(Birth(Outside(folder, url), broker, FileAnchor(folder / "anchor"), trap))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
