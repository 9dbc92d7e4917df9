"""The default society read from `conf/` without Hydra, for machines with numpy and torch alone.

Only what the plain files of `conf/` need is understood: one `key: value` a line. A test compares
every object with the one that Hydra composes.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.mandates import BasePortfolio, ExposureRule, Mandate, RewardWeights
from agents.network_spec import NetworkSpec
from agents.observation import BOOK_ASSET_FEATURES, BOOK_FEATURES
from envs.batch import EnvSettings
from envs.costs import CostModel
from risk.breakers import BreakerRules
from risk.exits import ExitRules
from risk.limits import Limits
from training.settings import RLSettings

CONF = Path(__file__).resolve().parents[1] / "conf"
NAMES = ("conservative", "balanced", "aggressive")  # agents=three
WORDS = {"null": None, "true": True, "false": False}

Scalar = str | int | float | bool | None


def mandates(agents: int = len(NAMES)) -> tuple[Mandate, ...]:
    """Return the three default mandates, repeated under other names up to `agents`."""
    three = [_mandate(name) for name in NAMES]
    return tuple(_renamed(three[i % len(three)], i // len(three)) for i in range(agents))


def settings(**changes: Any) -> EnvSettings:
    """Return the default environment with all costs, and some of its values changed."""
    costs = CostModel(**values("env/costs/impact"))
    return EnvSettings(**{"costs": costs, **values("env/default"), **changes})


def network(choice: str, asset_features: int, market_features: int) -> NetworkSpec:
    """Return the shape of one choice of the group `network` for a number of features."""
    return NetworkSpec(
        asset_features=asset_features,
        market_features=market_features,
        book_asset=BOOK_ASSET_FEATURES,
        book=BOOK_FEATURES,
        **values(f"network/{choice}"),
    )


def algorithm(**changes: Any) -> RLSettings:
    """Return the settings of PPO with some values changed."""
    return RLSettings(**{**values("algorithm/ppo"), **changes})


def values(name: str) -> dict[str, Any]:
    """Return the scalars of one file of `conf/`, without its list of defaults."""
    lines = (CONF / f"{name}.yaml").read_text().splitlines()
    plain = [line.partition("#")[0].rstrip() for line in lines if not line.startswith((" ", "#"))]
    pairs = [line.partition(":") for line in plain if line]
    return {key: _scalar(text.strip()) for key, _, text in pairs if key != "defaults"}


def _mandate(name: str) -> Mandate:
    chosen = values(f"agent/{name}")
    return Mandate(
        **{
            **chosen,
            "policy": name,  # written there as a reference to the name
            "base": BasePortfolio[chosen["base"]],
            "exposure": ExposureRule[chosen["exposure"]],
        },
        limits=Limits(**values(f"limits/{name}")),
        exits=ExitRules(**values("exits/none")),
        breakers=BreakerRules(**values("breakers/none")),
        reward=RewardWeights(**values(f"reward/hedged_{name}")),
    )


def _renamed(mandate: Mandate, copy: int) -> Mandate:
    if copy == 0:
        return mandate
    name = f"{mandate.name}_{copy + 1}"
    return replace(mandate, name=name, policy=name)


def _scalar(text: str) -> Scalar:
    """Return what one YAML scalar means.

    >>> _scalar("null"), _scalar("3_500_000"), _scalar("3.0e-4"), _scalar("equal_weight")
    (None, 3500000, 0.0003, 'equal_weight')
    """
    if text in WORDS:
        return WORDS[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
