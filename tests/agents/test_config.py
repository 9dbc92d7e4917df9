from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import MissingMandatoryValue
from omegaconf.errors import OmegaConfBaseException

from agents.mandates import Mandate
from agents.policies import FixedPolicy

Compose = Callable[..., Any]
CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("three", ["conservative", "balanced", "aggressive"]),
        ("five", ["conservative", "cautious", "balanced", "growth", "aggressive"]),
        ("free", ["free"]),
    ],
)
def test_a_society_is_its_named_mandates_in_order(
    compose: Compose, group: str, names: list[str]
) -> None:
    mandates = compose(f"agents={group}").agents
    assert list(mandates) == names
    assert [(m.name, m.policy) for m in mandates.values()] == [(n, n) for n in names]
    assert all(type(m) is Mandate for m in mandates.values())


def test_every_mandate_of_five_has_its_own_limits_reward_and_target(compose: Compose) -> None:
    mandates = list(compose("agents=five").agents.values())
    targets = [m.target_volatility for m in mandates]
    assert targets == sorted(set(targets))
    for field in ("limits", "reward"):
        values = [repr(getattr(m, field)) for m in mandates]
        assert len(set(values)) == len(values), field
    caps = [(m.limits.max_weight, m.limits.max_volatility) for m in mandates]
    assert caps == sorted(caps)


def test_one_value_of_one_mandate_can_be_overridden(compose: Compose) -> None:
    plain = compose("agents=three").agents
    changed = compose(
        "agents=three",
        "agents.balanced.tilt=0.4",
        "agents.balanced.limits.max_weight=0.1",
        "agents.balanced.policy=shared",
    ).agents
    assert changed["balanced"].tilt == 0.4
    assert changed["balanced"].limits.max_weight == 0.1
    assert changed["balanced"].policy == "shared"
    assert changed["conservative"] == plain["conservative"]
    assert changed["aggressive"] == plain["aggressive"]


def test_the_groups_within_a_mandate_can_be_exchanged(compose: Compose) -> None:
    agents = compose(
        "reward@agents.balanced.reward=composite",
        "exits@agents.balanced.exits=standard",
        "limits@agents.balanced.limits=free",
    ).agents
    assert agents["balanced"].reward.log_growth == 2.0
    assert agents["balanced"].exits.active
    assert agents["balanced"].limits.max_weight == 1.0
    assert agents["aggressive"].reward.log_growth == 0.0


@pytest.mark.parametrize(
    "override",
    [
        "agents.balanced.tlt=0.4",
        "agents.balancd.tilt=0.4",
        "agents.balanced.limits.max_wait=0.1",
        "agents.balanced.tilt=much",
        "agents.balanced.base=equal",
        "network.hiden=3",
        "ensemble.rate=1",
        "policy.wieghts={}",
    ],
)
def test_a_misspelt_key_or_a_wrong_type_fails_at_composition(
    compose: Compose, override: str
) -> None:
    with pytest.raises((ConfigCompositionException, OmegaConfBaseException)):
        compose(override)


def test_an_unknown_society_fails_at_composition(compose: Compose) -> None:
    with pytest.raises(MissingConfigException):
        compose("agents=six")


def test_fixed_weights_keep_symbols_with_dots(compose: Compose) -> None:
    policy = compose("policy=fixed", "policy.weights={AAPL:0.5,BRK.B:0.3}").policy
    assert policy == FixedPolicy({"AAPL": 0.5, "BRK.B": 0.3})


def test_fixed_weights_of_nothing_are_all_cash_but_must_be_said(compose: Compose) -> None:
    assert compose("policy=fixed", "policy.weights={}").policy.weights == {}
    with pytest.raises(MissingMandatoryValue, match=r"policy\.weights"):
        compose("policy=fixed")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("{AAPL:-0.1}", r"policy\.weights\.AAPL must be a number >= 0, was -0\.1"),
        ("{AAPL:nan}", r"policy\.weights\.AAPL must be a number >= 0, was nan"),
        ("{AAPL:much}", r"policy\.weights\.AAPL must be a number >= 0, was 'much'"),
        ("{AAPL:true}", r"policy\.weights\.AAPL must be a number >= 0, was True"),
        ("{AAPL:0.7,MSFT:0.4}", r"policy\.weights must sum to at most 1, the sum was 1\.1"),
        ("[0.5]", r"policy\.weights must map symbols to weights, was \[0\.5\]"),
    ],
)
def test_bad_fixed_weights_are_refused(compose: Compose, weights: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        compose("policy=fixed", f"policy.weights={weights}")


def test_ten_tenths_are_not_more_than_the_whole(compose: Compose) -> None:
    tenths = ",".join(f"S{i}:0.1" for i in range(10))
    assert len(compose("policy=fixed", f"policy.weights={{{tenths}}}").policy.weights) == 10


@pytest.mark.parametrize("group", ["network", "ensemble", "policy"])
def test_every_file_of_a_group_composes_to_an_object_of_ours(compose: Compose, group: str) -> None:
    files = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    assert files
    for name in files:
        needs = {"fixed": ["policy.weights={}"], "artefact": ["policy.path=here"]}
        extra = needs.get(name, []) if group == "policy" else []
        item = getattr(compose(f"{group}={name}", *extra), group)
        assert type(item).__module__.startswith("agents."), name


def test_every_reward_file_composes(compose: Compose) -> None:
    for path in (CONF / "reward").glob("*.yaml"):
        override = f"reward@agents.balanced.reward={path.stem}"
        assert compose(override).agents["balanced"].reward is not None


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("network.members=0", "network.members"),
        ("network.dropout=1.0", "network.dropout"),
        ("ensemble.by_agent=[0.5,0.4]", "ensemble.by_agent"),
        ("agents.balanced.band=1.5", "agents.balanced.band"),
    ],
)
def test_a_value_without_sense_names_its_key(compose: Compose, override: str, key: str) -> None:
    with pytest.raises(Exception, match=key.replace(".", r"\.")):
        compose(override)
