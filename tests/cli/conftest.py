"""Run the console command inside the test's process, in an empty folder."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from cli.__main__ import main
from market.calendar import sessions


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def tercet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Result]:
    """Return a function that runs `tercet <arguments>` and gives back what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["tercet", *arguments])
        code = main()
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """Return a good long CSV of three symbols that a test can spoil."""
    dates = sessions("XNYS", np.datetime64("2015-01-02"), np.datetime64("2018-12-31"))
    lines = ["date,symbol,close"]
    for i, date in enumerate(dates):
        for k, symbol in enumerate(("AAA", "BBB", "CCC")):
            lines.append(f"{date},{symbol},{100 + k * 10 + (i * (k + 3)) % 17 * 0.1:.4f}")
    path = tmp_path / "prices.csv"
    path.write_text("\n".join(lines) + "\n")
    return path
