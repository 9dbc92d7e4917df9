import numpy as np
import pytest

from market.calendar import iso_date, sessions
from market.errors import InputError


def days(*texts: str) -> np.ndarray:
    return np.array(texts, dtype="datetime64[D]")


def test_the_exchange_was_closed_for_four_sessions_in_september_2001():
    found = sessions("XNYS", iso_date("2001-09-10"), iso_date("2001-09-18"))
    assert (found == days("2001-09-10", "2001-09-17", "2001-09-18")).all()


def test_the_calendar_reaches_back_beyond_twenty_years():
    assert len(sessions("XNYS", iso_date("1990-01-01"), iso_date("1990-12-31"))) == 253


def test_a_holiday_has_no_session():
    assert len(sessions("XNYS", iso_date("2020-12-25"), iso_date("2020-12-27"))) == 0


def test_another_exchange_has_other_sessions():
    boxing_day = iso_date("2019-12-26")
    assert len(sessions("XNYS", boxing_day, boxing_day)) == 1
    assert len(sessions("XLON", boxing_day, boxing_day)) == 0


def test_an_unknown_exchange_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"market\.exchange.*'XNYSE'.*nearest: XNYS"):
        sessions("XNYSE", iso_date("2020-01-01"), iso_date("2020-01-31"))


def test_a_year_beyond_every_calendar_is_refused():
    with pytest.raises(InputError, match=r"market\.exchange: XNYS"):
        sessions("XNYS", iso_date("1500-01-01"), iso_date("1500-02-01"))


@pytest.mark.parametrize(
    "text", ["2012-11-31", "11/30/2012", "20121130", "2012-11", "2012-W48-5", ""]
)
def test_a_date_in_any_other_form_is_refused(text: str):
    with pytest.raises(ValueError):
        iso_date(text)
