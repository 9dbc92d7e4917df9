import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import InputError
from market.normalise import Normaliser, Window, rank_across, zscore_across

TRAIN = Window("train", "2001-01-01", "2009-12-31")
TEST = Window("test", "2010-01-04", "2015-12-31")


def block(rows: int, names: int, features: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(rows, names, features)).astype(np.float32)
    values[generator.random(values.shape) < 0.1] = np.nan
    return values, generator.random((rows, names)) < 0.9


shapes = st.tuples(st.integers(1, 30), st.integers(1, 12), st.integers(1, 4), st.integers(0, 99))


@given(shapes)
def test_a_z_score_is_that_of_the_known_investable_names_of_the_day(
    shape: tuple[int, int, int, int],
) -> None:
    raw, mask = block(*shape)
    values = raw.copy()
    zscore_across(values, mask, 3.0)
    for t in range(raw.shape[0]):
        for k in range(raw.shape[2]):
            known = np.isfinite(raw[t, :, k]) & mask[t]
            own = raw[t, known, k].astype(np.float64)
            assert (values[t, ~known, k] == 0.0).all()
            if len(own) > 1:
                expected = np.clip((own - own.mean()) / own.std(), -3.0, 3.0)
                np.testing.assert_allclose(values[t, known, k], expected, atol=1e-5)
            else:
                assert (values[t, :, k] == 0.0).all()


@given(shapes, st.integers(0, 29))
def test_a_row_is_the_same_bits_whatever_rows_stand_beside_it(
    shape: tuple[int, int, int, int], row: int
) -> None:
    raw, mask = block(*shape)
    row = row % shape[0]
    for transform in (lambda v, m: zscore_across(v, m, 3.0), rank_across):
        whole, alone = raw.copy(), raw[row : row + 1].copy()
        transform(whole, mask)
        transform(alone, mask[row : row + 1])
        assert whole[row].tobytes() == alone[0].tobytes()


def test_equal_names_have_no_z_score() -> None:
    values = np.full((2, 7, 1), 0.1, dtype=np.float32)
    zscore_across(values, np.ones((2, 7), dtype=bool), 3.0)
    assert (values == 0.0).all()


def test_an_outlier_is_cut_off_at_the_clip() -> None:
    values = np.zeros((1, 100, 1), dtype=np.float32)
    values[0, 0, 0] = 1e6
    zscore_across(values, np.ones((1, 100), dtype=bool), 3.0)
    assert values.max() == 3.0


def test_ranks_run_from_minus_one_to_one_and_ties_share_their_mean() -> None:
    values = np.array([5.0, 1.0, 3.0, 3.0, np.nan, 9.0], np.float32)[None, :, None]
    mask = np.array([[True, True, True, True, True, False]])
    rank_across(values, mask)
    np.testing.assert_allclose(values[0, :, 0], [1.0, -1.0, 0.0, 0.0, 0.0, 0.0])


@given(shapes)
def test_ranks_survive_any_increasing_map(shape: tuple[int, int, int, int]) -> None:
    raw, mask = block(*shape)
    plain, mapped = raw.copy(), np.exp(raw).astype(np.float32)
    rank_across(plain, mask)
    rank_across(mapped, mask)
    np.testing.assert_array_equal(plain, mapped)
    assert np.abs(plain).max() <= 1.0


@pytest.mark.parametrize("label", ["test", "Test", "test fold 3"])
def test_a_normaliser_refuses_to_be_fitted_on_a_window_called_test(label: str) -> None:
    with pytest.raises(InputError, match="sealed"):
        Normaliser.fit(("x",), np.ones((3, 1)), Window(label, "2010-01-01", "2010-01-03"))


def test_a_normaliser_refuses_the_window_it_was_fitted_on_under_the_name_test() -> None:
    fitted = Normaliser.fit(("x",), np.arange(9.0)[:, None], TRAIN)
    with pytest.raises(InputError, match="begins before the end"):
        fitted.transform(np.ones((3, 1)), Window("test", TRAIN.first, TRAIN.last), 3.0)
    with pytest.raises(InputError, match="begins before the end"):
        fitted.transform(np.ones((3, 1)), Window("test", TRAIN.last, TEST.last), 3.0)
    assert fitted.transform(np.ones((3, 1)), TEST, 3.0).shape == (3, 1)


def test_the_moments_are_those_of_the_train_window() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, (500, 2))
    values[10:20, 1] = np.nan
    fitted = Normaliser.fit(("a", "b"), values, TRAIN)
    np.testing.assert_allclose(fitted.mean, np.nanmean(values, axis=0))
    np.testing.assert_allclose(fitted.std, np.nanstd(values, axis=0))
    scaled = fitted.transform(values, TRAIN, 3.0)
    assert scaled.dtype == np.float32
    assert (scaled[10:20, 1] == 0.0).all()
    assert np.abs(scaled).max() == 3.0
    np.testing.assert_allclose(scaled[:10], (values[:10] - fitted.mean) / fitted.std, atol=1e-5)


def test_a_series_that_training_never_saw_move_stays_zero(caplog: pytest.LogCaptureFixture) -> None:
    values = np.column_stack([np.full(50, 0.3), np.full(50, np.nan)])
    fitted = Normaliser.fit(("flat", "unknown"), values, TRAIN)
    assert "flat" in caplog.text and "unknown" in caplog.text
    assert (fitted.transform(np.full((4, 2), 7.0), TEST, 3.0) == 0.0).all()


def test_a_normaliser_survives_its_record() -> None:
    fitted = Normaliser.fit(("x",), np.random.default_rng(1).normal(size=(50, 1)), TRAIN)
    assert Normaliser.from_dict(fitted.to_dict()) == fitted
