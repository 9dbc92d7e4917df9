"""Every file of the risk groups composes into its dataclass."""

from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException

from risk.breakers import BreakerRules
from risk.config import register
from risk.exits import ExitRules
from risk.gateway.execution import ExecutionSettings
from risk.gateway.limits import GatewayLimits
from risk.gateway.strategy import StrategyRules
from risk.limits import Limits

CONF = Path(__file__).parents[2] / "conf"
GROUPS = {
    "limits": Limits,
    "exits": ExitRules,
    "breakers": BreakerRules,
    "gateway": GatewayLimits,
    "execution": ExecutionSettings,
    "strategy": StrategyRules,
}
FILES = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]


def built(*overrides: str) -> Any:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.utils.instantiate(compose(overrides=list(overrides)), _convert_="object")


@pytest.mark.parametrize(("group", "name"), FILES)
def test_every_file_becomes_its_dataclass(group: str, name: str) -> None:
    assert isinstance(built(f"+{group}={name}")[group], GROUPS[group])


def test_a_misspelt_limit_is_refused() -> None:
    with pytest.raises(ConfigCompositionException, match="max_wieght"):
        built("+limits=balanced", "limits.max_wieght=0.1")


def test_the_mandates_limits_widen_with_their_appetite() -> None:
    conservative, balanced, aggressive = (
        built(f"+limits={name}")["limits"] for name in ("conservative", "balanced", "aggressive")
    )
    for name in ("max_weight", "max_sector", "max_top3", "max_volatility", "max_invested"):
        values = [getattr(limits, name) for limits in (conservative, balanced, aggressive)]
        assert values == sorted(values)
        assert values[0] < values[-1]
