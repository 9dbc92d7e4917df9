"""Every guard that docs/traps.md names is a test that exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (\d+) \|", re.MULTILINE)
GUARD = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def test_every_trap_has_a_guard_that_exists() -> None:
    rows = [
        line for line in (ROOT / "docs" / "traps.md").read_text().splitlines() if ROW.match(line)
    ]
    assert len(rows) == 35
    for row in rows:
        guards = GUARD.findall(row)
        assert guards or "none: a matter of words" in row, row
        for file, name in guards:
            source = (ROOT / "tests" / file).read_text()
            assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{file}::{name}"
