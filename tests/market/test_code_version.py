import subprocess
from pathlib import Path

import pytest

from market import code_version
from market.code_version import commit


def test_the_commit_is_that_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    found = subprocess.run(
        ["git", "-C", str(Path(code_version.__file__).parent), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        pytest.skip("the tests do not run from a checkout")
    assert commit().removesuffix("-dirty") == found.stdout.strip()
    monkeypatch.setenv("PATH", "")
    assert commit() and "\n" not in commit()
