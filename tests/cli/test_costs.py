"""What `tercet costs` says of mistakes; its fit is tested where trades are made."""

import sys
from pathlib import Path

import pytest

from cli.__main__ import main
from risk.gateway.audit import FileAnchor
from risk.gateway.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the address of a ledger without orders."""
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    made = Ledger(url, FileAnchor(tmp_path / "anchor"))
    made.migrate()
    made.close()
    return url


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("least_trades=2",), "least_trades must be at least 3, was 2"),
        (("since=yesterday",), "since must be a date"),
        (("doubt.impact=0",), "doubt.impact must be a number > 0"),
        (("control.ledger=sqlite:///nowhere.sqlite",), "nowhere.sqlite"),
        (("out=ledger.sqlite/costs.json",), "out=ledger.sqlite/costs.json"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    ledger: str,
    words: tuple[str, ...],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["tercet", "costs", f"control.ledger={ledger}", *words])
    assert main() == 2
    shown = capsys.readouterr()
    assert problem in shown.err and shown.err.count("\n") == 1
    assert not list(Path().rglob("costs.json"))


def test_a_ledger_without_trades_gives_the_configured_model_and_says_so(
    ledger: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tercet", "costs", f"control.ledger={ledger}"])
    assert main() == 0
    assert "too few" in capsys.readouterr().out
    assert Path("runs/costs.json").exists()
