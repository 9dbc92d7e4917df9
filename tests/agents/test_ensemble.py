import json
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from agents.ensemble import (
    Fixed,
    Hedge,
    InverseVolatility,
    Mixer,
    RegimeGated,
    mixer_from_dict,
    mixer_to_dict,
    net,
)

MIXERS: Sequence[Mixer] = (
    Fixed(None),
    Fixed([0.5, 0.3, 0.2]),
    InverseVolatility(20),
    Hedge(2.0, 0.2),
    RegimeGated(2.0, 0.2),
)


def _returns(seed: int = 0, sessions: int = 120) -> np.ndarray:
    rng = np.random.default_rng(seed)
    returns = np.array([0.004, 0.008, 0.016]) * rng.standard_normal((sessions, 3))
    returns[0] = 0.0
    return returns


def _regime(seed: int = 0, sessions: int = 120) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, sessions)


@pytest.mark.parametrize("mixer", MIXERS)
def test_shares_are_not_negative_and_every_row_sums_to_one(mixer: Mixer) -> None:
    shares = mixer.shares(_returns(), _regime())
    assert shares.shape == (120, 3)
    assert (shares >= 0.0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize("mixer", MIXERS)
def test_nothing_after_a_session_changes_its_shares(mixer: Mixer) -> None:
    returns, regime = _returns(), _regime()
    later, other = _returns(9), _regime(9)
    later[:61], other[:61] = returns[:61], regime[:61]
    first, second = mixer.shares(returns, regime), mixer.shares(later, other)
    np.testing.assert_array_equal(first[:61], second[:61])
    cut = mixer.shares(returns[:61], regime[:61])
    np.testing.assert_allclose(cut, first[:61], rtol=1e-12)


@pytest.mark.parametrize("mixer", MIXERS[2:])
def test_a_mixer_that_looks_uses_the_return_of_the_same_session(mixer: Mixer) -> None:
    returns, regime = _returns(), np.zeros(120, dtype=np.int64)
    changed = returns.copy()
    changed[60] = [0.1, -0.1, 0.0]
    assert (mixer.shares(returns, regime)[60] != mixer.shares(changed, regime)[60]).any()


def test_inverse_volatility_matches_the_standard_deviations_of_its_window() -> None:
    returns = _returns()
    shares = InverseVolatility(20).shares(returns, _regime())
    np.testing.assert_array_equal(shares[:19], 1.0 / 3.0)
    inverse = 1.0 / returns[31:51].std(axis=0)
    np.testing.assert_allclose(shares[50], inverse / inverse.sum())


def test_a_book_in_cash_does_not_draw_everything_without_bound() -> None:
    returns = _returns()
    returns[:, 0] = 0.0
    shares = InverseVolatility(20).shares(returns, _regime())
    assert np.isfinite(shares).all()


def test_hedge_at_rate_one_without_a_floor_lets_each_book_keep_what_it_earned() -> None:
    returns = _returns()
    wealth = np.cumprod(1.0 + returns, axis=0)
    shares = Hedge(1.0, 0.0).shares(returns, _regime())
    np.testing.assert_allclose(shares, wealth / wealth.sum(axis=1, keepdims=True))


def test_hedge_never_gives_less_than_the_floor() -> None:
    returns = np.tile([[0.05, -0.05, 0.0]], (200, 1))
    shares = Hedge(10.0, 0.3).shares(returns, np.zeros(200, dtype=np.int64))
    assert shares.min() >= 0.1 - 1e-12
    assert shares[-1, 0] == pytest.approx(0.8)


def test_the_regime_gate_learns_which_agent_earns_in_which_regime() -> None:
    regime = np.arange(400) % 2  # never the same twice: the session of the decision counts
    decided_in = np.concatenate([regime[:1], regime[:-1]])
    returns = np.where(decided_in[:, None] == 0, [[0.01, -0.01]], [[-0.01, 0.01]])
    shares = RegimeGated(5.0, 0.0).shares(returns, regime)
    assert (shares[200:][regime[200:] == 0, 0] > 0.99).all()
    assert (shares[200:][regime[200:] == 1, 1] > 0.99).all()


def test_one_account_holds_every_agents_target_at_its_share() -> None:
    targets = np.array([[[1.0, 0.0], [0.0, 0.5]], [[0.2, 0.2], [0.6, 0.0]]])
    shares = np.array([[0.5, 0.5], [0.25, 0.75]])
    np.testing.assert_allclose(net(targets, shares), [[0.5, 0.25], [0.5, 0.05]])


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_mixer_survives_json(mixer: Mixer) -> None:
    assert mixer_from_dict(json.loads(json.dumps(mixer_to_dict(mixer)))) == mixer


def test_shares_for_another_number_of_agents_are_refused() -> None:
    with pytest.raises(ValueError, match="2 shares for 3 agents"):
        Fixed([0.5, 0.5]).shares(_returns(), _regime())


@pytest.mark.parametrize("shares", [[0.5, 0.6], [1.5, -0.5], [], [float("nan"), 1.0]])
def test_fixed_shares_that_are_none_are_refused(shares: list[float]) -> None:
    with pytest.raises(ValueError, match=r"ensemble\.by_agent"):
        Fixed(shares)


@pytest.mark.parametrize(("rate", "floor"), [(0.0, 0.1), (float("nan"), 0.1), (1.0, 1.1)])
def test_hedge_settings_without_sense_are_refused(rate: float, floor: float) -> None:
    for kind in (Hedge, RegimeGated):
        with pytest.raises(ValueError, match=r"ensemble\."):
            kind(rate, floor)


def test_a_window_of_one_session_has_no_volatility() -> None:
    with pytest.raises(ValueError, match=r"ensemble\.window"):
        InverseVolatility(1)


@pytest.mark.parametrize(
    ("mixer", "changes"),
    [
        (Fixed(None), {"by_agent": [0.5, 0.3, 0.2]}),
        (InverseVolatility(20), {"window": 21}),
        (Hedge(2.0, 0.2), {"rate": 2.5, "floor": 0.1}),
        (RegimeGated(2.0, 0.2), {"rate": 2.5, "floor": 0.1}),
    ],
)
def test_every_setting_changes_the_shares(mixer: Any, changes: dict[str, Any]) -> None:
    assert set(changes) == {item.name for item in fields(mixer)}
    usual = mixer.shares(_returns(), _regime())
    for name, value in changes.items():
        changed = replace(mixer, **{name: value}).shares(_returns(), _regime())
        assert not np.array_equal(changed, usual), name
