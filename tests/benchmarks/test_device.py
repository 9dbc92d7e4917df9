"""A device is measured with numpy and torch alone."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

ISOLATED = """
import re
import sys
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

OURS = {"agents", "benchmarks", "cli", "envs", "evaluation", "market", "risk", "training"}


def installed_with(name, found):
    # What comes onto a machine with numpy and torch: their own requirements, extras apart.
    found.add(re.sub("[-_.]+", "-", name).lower())
    try:
        needed = requires(name) or []
    except PackageNotFoundError:
        return found
    for line in needed:
        other = re.match("[A-Za-z0-9_.-]+", line).group()
        if "extra ==" not in line and other.lower() not in found:
            installed_with(other, found)
    return found


with_torch = installed_with("torch", {"numpy"})
third_party = {
    module
    for module, distributions in packages_distributions().items()
    if module not in OURS
    and not {re.sub("[-_.]+", "-", name).lower() for name in distributions} & with_torch
}


class Bare(PathFinder):
    # Finds what a machine with numpy and torch alone would find.
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in third_party:
            return None
        return super().find_spec(name, path, target)


for name in [name for name in sys.modules if name.partition(".")[0] in third_party]:
    del sys.modules[name]
sys.meta_path = [Bare if finder is PathFinder else finder for finder in sys.meta_path]

from benchmarks.device import main

main(sys.argv[1:])
loaded = {name.partition(".")[0] for name in sys.modules} & third_party
assert not loaded, loaded
assert {"ray", "hydra", "pandas", "gymnasium", "yaml", "scipy"} <= third_party
"""

TINY = ["--device=cpu", "--threads=1", "--repeats=1", "--no-compile", "--batches=4,8"]
TINY += ["--assets=5", "--sessions=300", "--episode=8", "--starts=2", "--replicas=4"]
TINY += ["--minibatch-days=8", "--elements=4096", "--matrix=16"]


def test_kernel_sampling_loop_and_roofline_need_numpy_and_torch_alone() -> None:
    run = subprocess.run(
        [sys.executable, "-c", ISOLATED, *TINY],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    record = json.loads(run.stdout.splitlines()[-1])
    assert record["benchmark"] == "device"
    assert record["threads"] == 1
    assert record["device"].startswith("cpu")
    assert record["kernel"]["agent_steps_per_s"] > 0
    assert record["kernel"]["batch"] in (4, 8)
    assert record["bare_torch"]["agent_steps"] == 2 * 4 * 8 * 3
    assert record["bare_torch"]["agent_steps_per_s"] < record["bare_torch"]["sample_per_s"]
    assert record["peaks"]["bandwidth_gb_per_s"] > 0
    assert 0 < record["roofline"]["kernel_share"] < 1


def test_a_size_that_is_no_number_ends_in_one_line() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.device", "--repeats=0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].endswith("must be at least 1, was 0")
