from dataclasses import fields, replace

import numpy as np
import pytest

from market.bars import Bars
from market.calendar import iso_date, sessions
from market.errors import InputError
from market.load import MarketConfig
from market.quality import QualityAction, QualityRules, apply
from market.sources.synthetic import SyntheticMarket, World, planted_drift

WORLDS = list(World)


def market(world: World = World.regimes, **changes: object) -> SyntheticMarket:
    config = SyntheticMarket(
        symbols=None,
        train=None,
        test=None,
        embargo=21,
        assumed_adv=None,
        cash_rate=0.0,
        exchange="XNYS",
        cache=None,
        seed=0,
        world=world,
        assets=12,
        first="2000-01-03",
        sessions=1500,
        market_volatility=0.008,
        idiosyncratic_volatility=0.01,
        market_drift=0.06,
        drift_dispersion=0.45,
        drift_half_life=250.0,
        splits=0,
        delistings=0,
        gaps=0,
    )
    return replace(config, **changes)


def gate(bars: Bars, action: QualityAction) -> Bars:
    rules = QualityRules(action, ["zero_volume"], 1e-4, 0.03, 0.01, 10, 2.5)
    return apply(bars, rules, sessions("XNYS", bars.dates[0], bars.dates[-1]))[0]


def next_open_returns(bars: Bars) -> np.ndarray:
    """(T - 2, N): what the decision of row t earns from its fill to the next."""
    assert bars.open is not None
    return bars.open[2:] / bars.open[1:-1] - 1.0


@pytest.mark.parametrize("world", WORLDS)
def test_equal_seeds_give_equal_bars_and_other_seeds_others(world: World):
    assert market(world).load().sha256 == market(world).load().sha256
    assert market(world).load().sha256 != market(world, seed=1).load().sha256


def test_the_version_is_that_of_the_settings():
    assert market().version() == market().version()
    assert market().version() != market(seed=1).version()
    assert market().version() != market(World.zero_alpha).version()


@pytest.mark.parametrize("world", WORLDS)
def test_a_world_without_events_passes_the_gate(world: World):
    bars = market(world).load()
    assert gate(bars, QualityAction.refuse) is bars


@pytest.mark.parametrize("world", WORLDS)
def test_open_and_close_lie_between_low_and_high(world: World):
    bars = market(world, gaps=5, delistings=2).load()
    priced = bars.tradable
    assert bars.fields == ("open", "high", "low", "close", "volume")
    assert (bars.low <= np.minimum(bars.open, bars.close))[priced].all()
    assert (bars.high >= np.maximum(bars.open, bars.close))[priced].all()
    assert (bars.volume > 0)[priced].all()


def test_dates_are_sessions_of_the_exchange():
    bars = market(first="2001-09-08").load()
    assert (bars.dates == sessions("XNYS", iso_date("2001-09-10"), bars.dates[-1])).all()
    assert len(bars.dates) == 1500


# -- the planted truth ----------------------------------------------------------------------------


def test_the_hidden_drift_explains_what_fills_earn():
    """Regressing realised on expected returns gives a slope of one within three errors."""
    config = market(World.planted_alpha, assets=40, sessions=3000)
    expected = planted_drift(config)[:-2]
    realised = next_open_returns(config.load())
    x = expected - expected.mean(axis=1, keepdims=True)
    y = realised - realised.mean(axis=1, keepdims=True)
    slope = (x * y).sum() / (x * x).sum()
    error = y.std() / np.sqrt((x * x).sum())
    assert abs(slope - 1.0) < 3.0 * error
    assert error < 0.1


def test_without_noise_the_fills_earn_exactly_the_hidden_drift():
    config = market(World.planted_alpha, market_volatility=0.0, idiosyncratic_volatility=0.0)
    np.testing.assert_allclose(
        next_open_returns(config.load()), planted_drift(config)[:-2], rtol=1e-9, atol=1e-12
    )


def test_nothing_known_at_the_close_has_moved_by_the_drift_of_its_row():
    """A change of the truth of row t alone would move open t + 2 first, and close t + 1."""
    config = market(World.planted_alpha, market_volatility=0.0, idiosyncratic_volatility=0.0)
    bars, drift = config.load(), np.log1p(planted_drift(config))
    day = np.log(bars.close / bars.open)
    night = np.log(bars.open[1:] / bars.close[:-1])
    np.testing.assert_allclose(day[1:], 0.7 * drift[:-1], atol=1e-12)
    np.testing.assert_allclose(night[1:], 0.3 * drift[:-2], atol=1e-12)


def test_the_hidden_drift_has_the_configured_dispersion_and_half_life():
    config = market(World.planted_alpha, assets=200, sessions=6000, first="1990-01-02")
    drift = np.log1p(planted_drift(config)) * 252.0
    assert np.std(drift, axis=1).mean() == pytest.approx(0.45, rel=0.05)
    np.testing.assert_allclose(drift.mean(axis=1), 0.06, atol=1e-9)
    excess = drift - drift.mean(axis=1, keepdims=True)
    kept = (excess[250:] * excess[:-250]).mean() / (excess**2).mean()
    assert kept == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("window", [63, 252])
def test_momentum_sees_the_planted_drift_and_nothing_in_the_zero_world(window: int):
    rank_correlation = {}
    for world in (World.planted_alpha, World.zero_alpha):
        config = market(world, assets=30, sessions=3000)
        bars = config.load()
        past = bars.close[window:-1] / bars.close[: -window - 1]
        future = next_open_returns(bars)[window:]
        past_rank = past[: len(future)].argsort(axis=1).argsort(axis=1) - 14.5
        centred = future - future.mean(axis=1, keepdims=True)
        daily = (past_rank * centred).mean(axis=1) / past_rank.std(axis=1) / centred.std(axis=1)
        rank_correlation[world] = daily.mean() / daily.std() * np.sqrt(252.0)
    assert rank_correlation[World.planted_alpha] > 3.0
    assert abs(rank_correlation[World.zero_alpha]) < 1.0


def test_planted_and_zero_worlds_share_their_noise():
    planted, zero = market(World.planted_alpha), market(World.zero_alpha)
    log_ratio = np.log(planted.load().close / zero.load().close)
    noise = np.diff(np.log(zero.load().close), axis=0)
    assert np.diff(log_ratio, axis=0).std() < 0.2 * noise.std()


def test_the_zero_world_has_one_drift_for_all():
    drift = planted_drift(market(World.zero_alpha))
    assert drift.shape == (1500, 12)
    np.testing.assert_allclose(drift, np.expm1(0.06 / 252.0), rtol=1e-12)


def test_the_truth_is_not_among_the_series():
    assert market(World.planted_alpha).load().series == {}


def test_a_world_of_regimes_has_no_planted_drift():
    with pytest.raises(ValueError, match="regimes"):
        planted_drift(market(World.regimes))


# -- regimes and events ---------------------------------------------------------------------------


def test_regimes_cluster_volatility_and_correlate_names():
    bars = market(World.regimes, sessions=4000).load()
    returns = np.diff(np.log(bars.close), axis=0)
    size = np.abs(returns.mean(axis=1))
    assert np.corrcoef(size[1:], size[:-1])[0, 1] > 0.15
    correlation = np.corrcoef(returns.T)
    same_sector, other_sector = correlation[0, 5], correlation[0, 1]
    assert same_sector > other_sector > 0.2


def test_a_delisting_ends_the_listing_and_books_a_return():
    bars = market(delistings=3).load()
    ended = ~bars.listed[-1]
    assert ended.sum() == 3
    assert (bars.terminal_return[ended] != 0.0).all()
    assert (bars.terminal_return[~ended] == 0.0).all()
    assert (bars.terminal_return > -1.0).all()
    assert gate(bars, QualityAction.refuse) is bars


def test_a_gap_is_listed_and_not_tradable_and_found_by_the_gate():
    bars = market(gaps=4).load()
    gaps = bars.listed & ~bars.tradable
    assert 4 <= gaps.sum() <= 20
    assert np.isnan(bars.close[gaps]).all()
    with pytest.raises(InputError, match="missing_session"):
        gate(bars, QualityAction.refuse)
    assert gate(bars, QualityAction.mask).listed.all()


@pytest.mark.parametrize("world", [World.planted_alpha, World.zero_alpha])
def test_every_planted_split_is_found_by_the_gate(world: World):
    bars = market(world, splits=3).load()
    with pytest.raises(InputError, match=r"S\d{3} \d{4}-\d\d-\d\d: split"):
        gate(bars, QualityAction.refuse)
    assert (~gate(bars, QualityAction.mask).listed[-1]).sum() == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("assets", 1),
        ("sessions", 99),
        ("seed", -1),
        ("market_volatility", float("nan")),
        ("drift_half_life", 0.0),
        ("splits", 13),
        ("gaps", -1),
    ],
)
def test_a_value_without_meaning_is_refused(name: str, value: float):
    with pytest.raises(ValueError, match=f"market.{name}"):
        market(**{name: value})


def test_a_first_date_in_another_form_is_refused():
    with pytest.raises(ValueError, match="03/01/2000"):
        market(first="03/01/2000")


PERTURBED = {
    "seed": 1,
    "world": World.zero_alpha,
    "assets": 13,
    "first": "2001-01-02",
    "sessions": 1400,
    "market_volatility": 0.009,
    "idiosyncratic_volatility": 0.011,
    "market_drift": 0.07,
    "drift_dispersion": 0.5,
    "drift_half_life": 200.0,
    "splits": 1,
    "delistings": 1,
    "gaps": 1,
}


def test_the_table_of_perturbations_names_every_field_of_the_market():
    shared = {item.name for item in fields(MarketConfig)}
    assert set(PERTURBED) == {item.name for item in fields(SyntheticMarket)} - shared


@pytest.mark.parametrize("name", PERTURBED)
def test_every_value_of_the_market_changes_its_bars(name: str):
    usual = market(World.planted_alpha)
    assert replace(usual, **{name: PERTURBED[name]}).load().sha256 != usual.load().sha256
