"""What holds for every test: small tensors on one thread, as the console command runs them.

`--soak` runs the tests that draw cases or break things with many more of them.
"""

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--soak`."""
    parser.addoption("--soak", action="store_true", help="many more cases, for hours")


@pytest.fixture(scope="session")
def soak(pytestconfig: pytest.Config) -> bool:
    """Return whether many more cases are wanted."""
    wanted: bool = pytestconfig.getoption("--soak")
    return wanted
