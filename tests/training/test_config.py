"""Settings of the training stages."""

from collections.abc import Callable
from typing import Any

import pytest

from training.config import NoAlgorithm, NoPretrain, NoTracking


@pytest.mark.parametrize(
    ("choice", "kind"),
    [("pretrain=none", NoPretrain), ("algorithm=none", NoAlgorithm), ("tracking=none", NoTracking)],
)
def test_none_is_a_choice_of_its_own(compose: Callable[..., Any], choice: str, kind: type) -> None:
    assert isinstance(compose(choice)[choice.partition("=")[0]], kind)


@pytest.mark.parametrize(
    ("group", "choice", "field", "value"),
    [
        ("algorithm", "ppo", "steps", 0),
        ("algorithm", "ppo", "gamma", 1.0),
        ("algorithm", "ppo", "gae_lambda", 1.1),
        ("algorithm", "ppo", "clip", 0.0),
        ("algorithm", "ppo", "replicas", 1),
        ("algorithm", "ppo", "device", "tpu"),
        ("algorithm", "ppo", "learning_rate", float("nan")),
        ("algorithm", "ppo", "keep_if", float("nan")),
        ("algorithm", "ppo", "num_env_runners", -1),
        ("pretrain", "ranker", "horizon", 0),
        ("pretrain", "ranker", "learning_rate", 0.0),
        ("pretrain", "ranker", "weight_decay", -1e-4),
        ("selection", "inner", "validation_fraction", 0.6),
        ("selection", "inner", "embargo", -1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(
    settings: Callable[..., Any], group: str, choice: str, field: str, value: object
) -> None:
    with pytest.raises(ValueError, match=rf"{group}\.{field} must be .*, was {value}"):
        settings(group, choice, **{field: value})
