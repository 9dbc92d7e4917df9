"""The paper day that ends the demo, as `make demo` runs it, with a small trained artefact."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MARKET = (
    "market=synthetic", "market.assets=5", "market.first=2012-01-03", "market.sessions=1200",
)  # fmt: skip
QUICK = ("algorithm=none", "pretrain.updates=5", "pretrain.keep_if=-inf", "tracking=none")


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, text=True, capture_output=True, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder),
             "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.timeout(900)
def test_agents_that_were_just_trained_trade_a_day_and_the_books_agree(
    tmp_path: Path, soak: bool
) -> None:
    if not soak:
        pytest.skip("seven processes one after the other: with --soak")
    trained = run(tmp_path, "cli", "train", *MARKET, *QUICK, "out=trained")
    assert trained.returncode == 0, trained.stderr
    day = run(tmp_path, "benchmarks.paper_day", "artefact=trained/artefact", *MARKET)
    assert day.returncode == 0, day.stderr
    lines = day.stdout.strip().splitlines()
    assert len(lines) <= 20, day.stdout
    assert [line[:3] for line in lines[1:6]] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert "filled" in lines[5]
    books = re.search(r"cash (\S+) in the ledger, (\S+) at the exchange", day.stdout)
    assert books is not None and books[1] == books[2]
    report = Path(lines[-1].removeprefix("report: "))
    assert report.is_file() and "<h1>" in report.read_text()
