import json
import subprocess
import sys
from dataclasses import replace

import pytest

from agents.mandates import Mandate, RewardWeights


@pytest.mark.parametrize("module", ["mandates", "config", "manifest", "policies", "ensemble"])
def test_importing_a_mandate_or_a_manifest_does_not_import_torch(module: str) -> None:
    program = f"import sys, agents.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_mandate_survives_json_unchanged(presets: dict[str, Mandate]) -> None:
    for mandate in presets.values():
        assert Mandate.from_dict(json.loads(json.dumps(mandate.to_dict()))) == mandate


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target_volatility", 0.0),
        ("target_volatility", float("nan")),
        ("tilt", -0.1),
        ("tilt", 101.0),
        ("tilt_rate", 0.0),
        ("tilt_rate", 1.1),
        ("exposure_authority", 0.0),
        ("band", 1.0),
        ("band", float("nan")),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_key(
    presets: dict[str, Mandate], field: str, value: float
) -> None:
    with pytest.raises(ValueError, match=rf"agents\.balanced\.{field} must be .*, was {value}"):
        replace(presets["balanced"], **{field: value})


@pytest.mark.parametrize("key", ["name", "policy"])
@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "x" * 65])
def test_a_name_that_would_break_a_parameter_or_file_name_is_refused(
    presets: dict[str, Mandate], key: str, name: str
) -> None:
    with pytest.raises(ValueError, match=f"agents: {key} must be .*, was {name!r}"):
        replace(presets["balanced"], **{key: name})


def test_a_reward_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one weight"):
        RewardWeights(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
