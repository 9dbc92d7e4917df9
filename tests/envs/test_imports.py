"""The kernel needs numpy and torch alone, and our plain package names are ours."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
NO_PACKAGES = ("conf", "hydra_plugins")  # YAML, and a namespace
SHIPPED = [name for name in WHEEL["wheel"]["packages"] if name not in NO_PACKAGES]

ISOLATED = """
import sys
from importlib.metadata import packages_distributions

import numpy
import torch

OURS = {"agents", "benchmarks", "cli", "envs", "evaluation", "market", "risk", "training"}
third_party = set(packages_distributions()) - OURS - {"numpy", "torch"}


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in third_party:
            raise ModuleNotFoundError(f"blocked: {name}")
        return None


# What torch itself has loaded stays with torch; nobody else gets at it.
for name in [name for name in sys.modules if name.partition(".")[0] in third_party]:
    del sys.modules[name]
sys.meta_path.insert(0, Blocker())

import envs.batch
import envs.costs
import envs.kernel
from agents.mandates import BasePortfolio, ExposureRule, Mandate, RewardWeights
from agents.market_tensors import MarketTensors
from risk.breakers import BreakerRules
from risk.exits import ExitRules
from risk.limits import Limits

T, N = 30, 4
close = 100.0 * torch.exp(torch.cumsum(0.01 * torch.randn(T, N, dtype=torch.float64), 0))
some = torch.full((T, N), 0.2, dtype=torch.float64)
true = torch.ones(T, N, dtype=torch.bool)
market = MarketTensors(
    open=close, close=close, tradable=true, investable=true, payout=some * torch.nan,
    reference_return=some[:, 0] * 0.0, reference_night=some[:, 0] * 0.0, volatility=some,
    market_volatility=some[:, 0], beta=some, idiosyncratic_volatility=some, momentum=some,
    adv=some * 1e7, asset_features=torch.zeros(T, N, 2), market_features=torch.zeros(T, 1),
    sector_of=torch.arange(N), n_sectors=N,
)
mandate = Mandate(
    "one", "one", 0.12, BasePortfolio.equal_weight, 1.0, 0.5, ExposureRule.full, 0.2, 0.05,
    Limits(1.0, 1.0, 1.0, 0.0, 1.0, 2.0, 1.0), ExitRules(0.1, None, None, None, 3),
    BreakerRules(0.2, None, None, None, None, 5), RewardWeights(1.0, *[0.0] * 8),
)
settings = envs.batch.EnvSettings(envs.costs.CostModel(1.0, 10.0, 0.5, 0.02), 1e5, 20, 0.1, False)
env = envs.batch.BatchEnv(market, [mandate, mandate], settings, slice(0, T))
env.reset(env.draw_starts(3, torch.Generator()), 20)
for _ in range(20):
    last = env.step(torch.rand(3, 2, N + 1))
    env.observe()
assert bool(last.truncated.all()) and bool(torch.isfinite(last.reward).all())

loaded = {name.partition(".")[0] for name in sys.modules} & third_party
assert not loaded, loaded
for name in ("gymnasium", "pettingzoo", "hydra", "pandas"):
    assert name in third_party, name
try:
    envs.MarketEnv
except ModuleNotFoundError:
    print("isolated")
"""


def test_the_kernel_and_the_batch_run_with_numpy_and_torch_alone() -> None:
    run = subprocess.run(
        [sys.executable, "-c", ISOLATED], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "isolated"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_package_of_ours_comes_from_this_repository(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__file__ is not None
    assert Path(package.__file__).resolve() == ROOT / name / "__init__.py"


def test_the_launcher_leaves_hydras_namespace_open_to_other_plugins() -> None:
    assert importlib.import_module("hydra_plugins").__file__ is None  # one __init__.py shuts it
    launcher = importlib.import_module("hydra_plugins.tercet_ray")
    assert Path(str(launcher.__file__)).resolve() == ROOT / "hydra_plugins" / "tercet_ray.py"


def test_every_layer_is_shipped() -> None:
    layers = {"agents", "benchmarks", "cli", "envs", "evaluation", "market", "risk", "training"}
    assert layers <= set(SHIPPED)


def test_the_environments_are_reached_by_their_short_names() -> None:
    envs = importlib.import_module("envs")
    assert envs.MarketEnv is importlib.import_module("envs.market_env").MarketEnv
    assert envs.make_env is importlib.import_module("envs.make").make_env
    with pytest.raises(AttributeError, match="no attribute 'market'"):
        envs.market  # noqa: B018  # the access is what is tested
