import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from market.bars import Bars
from market.calendar import iso_date, sessions
from market.errors import InputError
from market.load import load_bars
from market.quality import QualityAction, QualityRules
from market.sources.files import FilesMarket

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
DATES = sessions("XNYS", iso_date("2020-01-02"), iso_date("2020-03-31"))
SYMBOLS = ("AAA", "BRK.B", "NA")
RULES = QualityRules(QualityAction.refuse, ["zero_volume"], 1e-4, 0.03, 0.01, 10, 2.5)
FIELDS = ("open", "high", "low", "close", "volume")


def market(path: Path, **changes: object) -> FilesMarket:
    config = FilesMarket(
        symbols=None,
        train=None,
        test=None,
        embargo=0,
        assumed_adv=None,
        cash_rate=0.0,
        exchange="XNYS",
        cache=None,
        path=str(path),
        columns={},
        series={},
        sectors=None,
        membership=None,
    )
    return replace(config, **changes)


def long_table() -> pd.DataFrame:
    """Return rows by date, then symbol; BRK.B begins on the sixth session."""
    random = np.random.default_rng(0)
    frames = []
    for index, symbol in enumerate(SYMBOLS):
        close = 50.0 * np.exp(np.cumsum(random.normal(0, 0.01, len(DATES))))
        open_ = close * np.exp(random.normal(0, 0.005, len(DATES)))
        frame = pd.DataFrame(
            {
                "date": DATES.astype(str),
                "symbol": symbol,
                "open": open_,
                "high": np.maximum(open_, close) * 1.01,
                "low": np.minimum(open_, close) * 0.99,
                "close": close,
                "volume": random.integers(1000, 2000, len(DATES)),
            }
        )
        frames.append(frame[5 if index == 1 else 0 :])
    return pd.concat(frames).sort_values(["date", "symbol"], ignore_index=True)


def wide_table() -> pd.DataFrame:
    return long_table().pivot_table(index="date", columns="symbol", values="close")


def csv(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index=False)
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Bars:
    return market(csv(long_table(), tmp_path / "reference.csv")).load()


def same(left: Bars, right: Bars) -> None:
    assert left.symbols == right.symbols
    assert left.fields == right.fields
    assert (left.dates == right.dates).all()
    for name in (*left.fields, "tradable", "listed"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


# -- layouts --------------------------------------------------------------------------------------


def test_a_long_csv_gives_every_cell_its_value(reference: Bars):
    assert reference.symbols == SYMBOLS
    assert (reference.dates == DATES).all()
    for row in long_table().itertuples():
        t, n = np.searchsorted(DATES, iso_date(row.date)), SYMBOLS.index(row.symbol)
        for field in FIELDS:
            assert getattr(reference, field)[t, n] == getattr(row, field)


def test_a_symbol_is_listed_from_its_first_row_on(reference: Bars):
    assert not reference.listed[:5, 1].any()
    assert reference.listed[5:, 1].all()
    assert reference.listed[:, [0, 2]].all()
    assert np.isnan(reference.close[:5, 1]).all()


def write_parquet(table: pd.DataFrame, folder: Path) -> Path:
    table = table.assign(date=pd.to_datetime(table["date"]))
    table.to_parquet(folder / "bars.parquet", index=False)
    return folder / "bars.parquet"


def write_category_parquet(table: pd.DataFrame, folder: Path) -> Path:
    table = table.assign(symbol=table["symbol"].astype("category"))
    return write_parquet(table, folder)


def write_zoned_parquet(table: pd.DataFrame, folder: Path) -> Path:
    dates = pd.to_datetime(table["date"]).dt.tz_localize("America/New_York")
    table.assign(date=dates).to_parquet(folder / "bars.parquet", index=False)
    return folder / "bars.parquet"


def write_indexed_parquet(table: pd.DataFrame, folder: Path) -> Path:
    table.set_index(["date", "symbol"]).to_parquet(folder / "bars.parquet")
    return folder / "bars.parquet"


def write_by_symbol(table: pd.DataFrame, folder: Path) -> Path:
    return csv(table.sort_values(["symbol", "date"]), folder / "bars.csv")


def write_compact_dates(table: pd.DataFrame, folder: Path) -> Path:
    return csv(table.assign(date=table["date"].str.replace("-", "")), folder / "bars.csv")


def write_stamps(table: pd.DataFrame, folder: Path) -> Path:
    return csv(table.assign(date=table["date"] + "T16:00:00-05:00"), folder / "bars.csv")


def write_capital_header(table: pd.DataFrame, folder: Path) -> Path:
    return csv(table.rename(columns=str.title), folder / "bars.csv")


def write_with_byte_order_mark(table: pd.DataFrame, folder: Path) -> Path:
    table.to_csv(folder / "bars.csv", index=False, encoding="utf-8-sig")
    return folder / "bars.csv"


def write_file_per_symbol(table: pd.DataFrame, folder: Path) -> Path:
    for symbol, rows in table.groupby("symbol"):
        csv(rows.drop(columns="symbol"), folder / f"{symbol}.csv")
    (folder / "README.txt").write_text("not data")
    return folder


def write_parts(table: pd.DataFrame, folder: Path) -> Path:
    csv(table[:40], folder / "part-10.csv")
    write_parquet(table[40:], folder)
    return folder


@pytest.mark.parametrize(
    "write",
    [
        write_parquet,
        write_category_parquet,
        write_zoned_parquet,
        write_indexed_parquet,
        write_by_symbol,
        write_compact_dates,
        write_stamps,
        write_capital_header,
        write_with_byte_order_mark,
        write_file_per_symbol,
        write_parts,
    ],
)
def test_every_long_layout_gives_the_same_bars(
    tmp_path: Path, reference: Bars, write: Callable[[pd.DataFrame, Path], Path]
):
    folder = tmp_path / "data"
    folder.mkdir()
    same(market(write(long_table(), folder)).load(), reference)


@pytest.mark.parametrize("layout", ["csv", "parquet", "parquet index", "csv without index name"])
def test_every_wide_layout_gives_the_closes(tmp_path: Path, reference: Bars, layout: str):
    table, path = wide_table(), tmp_path / "wide.csv"
    if layout == "csv":
        table.to_csv(path)
    elif layout == "csv without index name":
        table.rename_axis(None).to_csv(path)
    else:
        path = tmp_path / "wide.parquet"
        table.index = pd.to_datetime(table.index).rename(None if "index" in layout else "Date")
        table.to_parquet(path)
    bars = market(path).load()
    assert bars.symbols == SYMBOLS
    assert bars.fields == ("close",)
    assert (bars.dates == DATES).all()
    np.testing.assert_array_equal(bars.close, reference.close)
    np.testing.assert_array_equal(bars.listed, reference.listed)


def test_a_wide_table_may_hold_a_stock_called_low(tmp_path: Path):
    path = tmp_path / "wide.csv"
    wide_table().rename(columns={"AAA": "LOW"}).to_csv(path)
    assert market(path).load().symbols == ("LOW", "BRK.B", "NA")


def test_a_gap_of_a_wide_column_stays_listed_and_its_ends_do_not(tmp_path: Path):
    table = wide_table()
    table.iloc[10:12, 0] = np.nan
    table.iloc[-3:, 0] = np.nan
    path = tmp_path / "wide.csv"
    table.to_csv(path)
    bars = market(path).load()
    assert bars.listed[:-3, 0].all()
    assert not bars.listed[-3:, 0].any()
    assert not bars.tradable[10:12, 0].any()


def test_a_missing_row_stays_listed_and_is_not_tradable(tmp_path: Path):
    table = long_table()
    gone = (table["symbol"] == "AAA") & (table["date"] == str(DATES[20]))
    bars = market(csv(table[~gone], tmp_path / "bars.csv")).load()
    assert bars.listed[20, 0]
    assert not bars.tradable[20, 0]
    assert np.isnan(bars.close[20, 0])


def test_columns_are_renamed_by_configuration(tmp_path: Path, reference: Bars):
    table = long_table().rename(columns={"close": "Adj Close", "symbol": "tic", "date": "day"})
    path = csv(table.assign(close=-1.0), tmp_path / "bars.csv")
    columns = {"close": "Adj Close", "symbol": "tic", "date": "day"}
    same(market(path, columns=columns).load(), reference)


def test_a_record_of_some_fields_declares_only_those(tmp_path: Path):
    table = long_table()[["date", "symbol", "close", "volume"]]
    assert market(csv(table, tmp_path / "bars.csv")).load().fields == ("close", "volume")


def test_a_field_that_some_files_lack_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    csv(long_table()[:50], tmp_path / "one.csv")
    csv(long_table()[50:].drop(columns="volume"), tmp_path / "two.csv")
    assert market(tmp_path).load().fields == ("open", "high", "low", "close")
    assert "volume is left out" in caplog.text


def test_bars_do_not_depend_on_where_they_lie(tmp_path: Path, reference: Bars):
    assert market(csv(long_table(), tmp_path / "moved.csv")).load().sha256 == reference.sha256


# -- errors ---------------------------------------------------------------------------------------


def refusal(config: FilesMarket) -> str:
    with pytest.raises(InputError) as caught:
        load_bars(config, RULES)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path):
    assert refusal(market(tmp_path / "gone.csv")) == f"{tmp_path / 'gone.csv'}: no such file"


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path):
    (tmp_path / "bars.xlsx").write_text("x")
    assert "neither .csv nor .parquet" in refusal(market(tmp_path / "bars.xlsx"))


def test_an_empty_folder_is_refused(tmp_path: Path):
    assert "holds no .csv or .parquet" in refusal(market(tmp_path))


@pytest.mark.parametrize("name", ["bars.csv", "bars.parquet"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"")
    message = refusal(market(tmp_path / name))
    assert name in message
    assert "empty" in message or "size is 0" in message


@pytest.mark.parametrize("name", ["bars.csv", "bars.parquet"])
def test_a_header_without_rows_is_refused(tmp_path: Path, name: str):
    table, path = long_table()[:0], tmp_path / name
    csv(table, path) if name.endswith("csv") else table.to_parquet(path)
    assert "has no rows" in refusal(market(path))


def test_a_damaged_parquet_file_is_refused(tmp_path: Path):
    path = write_parquet(long_table(), tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    assert "bars.parquet" in refusal(market(path))


def with_line(tmp_path: Path, number: int, text: str) -> Path:
    """Replace one line of the long CSV, counted from 1 as editors do."""
    path = csv(long_table(), tmp_path / "bars.csv")
    lines = path.read_text().splitlines()
    lines[number - 1] = text
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_malformed_row_is_refused_with_its_line(tmp_path: Path):
    message = refusal(market(with_line(tmp_path, 7, "2020-01-06,AAA,1,2,3,4,5,6,7,8")))
    assert "bars.csv" in message
    assert "line 7" in message


def test_a_price_that_is_no_number_is_refused_with_line_and_column(tmp_path: Path):
    message = refusal(market(with_line(tmp_path, 9, "2020-01-07,NA,1,2,3,four,5")))
    assert "bars.csv" in message
    assert "'close'" in message
    assert "line 9" in message
    assert "four" in message


@pytest.mark.parametrize("date", ["2020-13-01", "02/01/2020", "soon", "2020-1-2", ""])
def test_an_unparsable_date_is_refused_with_its_line_and_value(tmp_path: Path, date: str):
    message = refusal(market(with_line(tmp_path, 5, f"{date},AAA,1,2,1,1,5")))
    assert "bars.csv, line 5" in message
    assert repr(date) in message


def test_a_row_without_a_symbol_is_refused_with_its_line(tmp_path: Path):
    assert "bars.csv, line 5" in refusal(market(with_line(tmp_path, 5, "2020-01-03,,1,2,1,1,5")))


def test_a_duplicate_session_is_refused_with_symbol_and_date(tmp_path: Path):
    table = long_table()
    twice = pd.concat([table, table[30:31]])
    row = table.iloc[30]
    message = refusal(market(csv(twice.sort_values("date"), tmp_path / "bars.csv")))
    assert f"{row['symbol']} {row['date']}: duplicate" in message


def test_a_session_in_two_files_is_refused(tmp_path: Path):
    csv(long_table()[:50], tmp_path / "one.csv")
    csv(long_table()[49:], tmp_path / "two.csv")
    row = long_table().iloc[49]
    assert f"two.csv: {row['symbol']} {row['date']}: duplicate" in refusal(market(tmp_path))


def test_rows_that_run_backwards_are_refused_with_symbol_and_date(tmp_path: Path):
    path = csv(long_table()[::-1], tmp_path / "bars.csv")
    assert f"AAA {DATES[-2]}: unsorted" in refusal(market(path))


@pytest.mark.parametrize("rule", ["unsorted", "duplicate"])
def test_rows_of_a_wide_table_must_run_forward(tmp_path: Path, rule: str):
    table = wide_table().reset_index()
    table.loc[10, "date"] = table.loc[8 if rule == "unsorted" else 9, "date"]
    assert f"{rule}: rows must run forward" in refusal(market(csv(table, tmp_path / "wide.csv")))


@pytest.mark.parametrize("layout", ["long", "wide"])
def test_a_nan_price_is_refused_with_symbol_date_and_rule(tmp_path: Path, layout: str):
    path = tmp_path / "bars.csv"
    if layout == "long":
        table = long_table()
        table.loc[(table["symbol"] == "AAA") & (table["date"] == str(DATES[9])), "close"] = np.nan
        csv(table, path)
    else:
        table = wide_table()
        table.loc[str(DATES[9]), "AAA"] = np.nan
        table.to_csv(path)
    assert f"{path}: AAA {DATES[9]}: nan_price" in refusal(market(path))


def test_a_universe_of_one_asset_is_refused(tmp_path: Path):
    table = long_table()
    path = csv(table[table["symbol"] == "AAA"], tmp_path / "bars.csv")
    assert refusal(market(path)) == f"{path}: a universe needs at least 2 assets, has AAA"


@pytest.mark.parametrize(
    ("renamed", "shown"),
    [
        ({"close": "clsoe"}, "no column 'close' (nearest: clsoe)"),
        ({"symbol": "symbl"}, "no column 'symbol' (nearest: symbl)"),
        ({"date": "dat"}, "no column 'date' (nearest: dat)"),
        ({"close": "Adj Close"}, "no column 'close' (nearest: Adj Close)"),
    ],
)
def test_a_missing_column_is_refused_with_the_nearest_name(
    tmp_path: Path, renamed: dict[str, str], shown: str
):
    path = csv(long_table().rename(columns=renamed), tmp_path / "bars.csv")
    assert refusal(market(path)) == f"{path}: {shown}"


def test_a_missing_close_without_symbols_is_no_wide_table(tmp_path: Path):
    table = long_table().drop(columns="symbol").rename(columns={"close": "clsoe"})
    path = csv(table[:10], tmp_path / "bars.csv")
    assert "no column 'close' (nearest: clsoe)" in refusal(market(path))


def test_a_configured_column_that_is_missing_is_refused(tmp_path: Path):
    path = csv(long_table(), tmp_path / "bars.csv")
    message = refusal(market(path, columns={"close": "adj_close"}))
    assert "no column 'adj_close' for market.columns.close (nearest: close)" in message


def test_a_column_of_ours_that_does_not_exist_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"market\.columns has no 'clos' \(nearest: close\)"):
        market(tmp_path, columns={"clos": "x"})


def test_a_wide_column_without_any_price_is_refused(tmp_path: Path):
    path = tmp_path / "wide.csv"
    wide_table().assign(EMPTY=np.nan).to_csv(path)
    assert "column EMPTY has no price" in refusal(market(path))


def test_text_in_a_wide_column_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "wide.csv"
    wide_table().assign(note="x").to_csv(path)
    assert "'note'" in refusal(market(path))


# -- what stands beside the bars ------------------------------------------------------------------


def test_a_further_series_is_aligned_and_not_filled(tmp_path: Path):
    vix = pd.DataFrame({"date": DATES.astype(str), "open": 1.0, "close": np.arange(len(DATES))})
    vix = pd.concat([pd.DataFrame({"date": ["2019-12-31"], "close": [-1.0]}), vix.drop(index=7)])
    path = csv(long_table(), tmp_path / "bars.csv")
    series = {"VIX": str(csv(vix, tmp_path / "vix.csv"))}
    expected = np.arange(float(len(DATES)))
    expected[7] = np.nan
    np.testing.assert_array_equal(market(path, series=series).load().series["VIX"], expected)


def test_a_series_with_a_day_twice_is_refused(tmp_path: Path):
    vix = pd.DataFrame({"date": ["2020-01-02", "2020-01-02"], "close": [1.0, 2.0]})
    path = csv(long_table(), tmp_path / "bars.csv")
    series = {"VIX": str(csv(vix, tmp_path / "vix.csv"))}
    assert "vix.csv: 2020-01-02: duplicate" in refusal(market(path, series=series))


@pytest.mark.parametrize("names", [("symbol", "sector"), ("tic", "gics_sector")])
def test_sectors_come_from_their_file(tmp_path: Path, names: tuple[str, str]):
    table = pd.DataFrame({names[0]: ["NA", "AAA", "ZZZ"], names[1]: ["Energy", "Tech", "Other"]})
    path = csv(long_table(), tmp_path / "bars.csv")
    sectors = str(csv(table, tmp_path / "sectors.csv"))
    assert market(path, sectors=sectors).load().sectors == ("Tech", "unknown", "Energy")


def test_membership_limits_listing_and_trading_and_keeps_the_history(
    tmp_path: Path, reference: Bars
):
    members = pd.DataFrame(
        {
            "ticker": ["AAA", "AAA", "BRK.B", "NA", "ZZZ"],
            "start_date": [
                "1999-01-04",
                str(DATES[30]),
                str(DATES[10]),
                str(DATES[0]),
                "2000-01-03",
            ],
            "end_date": [str(DATES[20]), "", "", str(DATES[15]), ""],
        }
    )
    path = csv(long_table(), tmp_path / "bars.csv")
    bars = market(path, membership=str(csv(members, tmp_path / "members.csv"))).load()
    row = np.arange(len(DATES))
    expected = np.stack([(row < 20) | (row >= 30), row >= 10, row < 15], axis=1)
    np.testing.assert_array_equal(bars.listed, expected)
    np.testing.assert_array_equal(bars.tradable, expected)
    np.testing.assert_array_equal(bars.close, reference.close)
    assert "membership" in bars.notes[0]


def test_without_membership_survivorship_is_said(reference: Bars):
    assert "survivors only" in reference.notes[0]


def test_a_membership_file_of_other_symbols_is_refused(tmp_path: Path):
    members = pd.DataFrame({"ticker": ["ZZZ"], "start_date": ["1999-01-04"], "end_date": [""]})
    path = csv(long_table(), tmp_path / "bars.csv")
    message = refusal(market(path, membership=str(csv(members, tmp_path / "members.csv"))))
    assert "members.csv: none of 3 symbols is a member" in message


def test_a_sector_file_without_a_sector_is_refused(tmp_path: Path):
    path = csv(long_table(), tmp_path / "bars.csv")
    other = csv(pd.DataFrame({"symbol": ["AAA"], "sectr": ["x"]}), tmp_path / "sectors.csv")
    message = refusal(market(path, sectors=str(other)))
    assert "no column 'sector' (nearest: sectr)" in message


# -- the cache ------------------------------------------------------------------------------------


def test_the_cached_bars_equal_those_that_were_read(tmp_path: Path):
    path = csv(long_table(), tmp_path / "bars.csv")
    vix = pd.DataFrame({"date": DATES.astype(str), "close": 1.0})
    extras = {
        "series": {"VIX": str(csv(vix, tmp_path / "vix.csv"))},
        "cache": str(tmp_path / "cache"),
    }
    first, second = market(path, **extras).load(), market(path, **extras).load()
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert first.sha256 == second.sha256 == market(path, series=extras["series"]).load().sha256


def test_a_changed_file_is_read_again(tmp_path: Path):
    path = csv(long_table(), tmp_path / "bars.csv")
    cache = str(tmp_path / "cache")
    before = market(path, cache=cache).load()
    csv(long_table().assign(close=50.0), path)
    os.utime(path, ns=(1, 1))
    after = market(path, cache=cache).load()
    assert (after.close[np.isfinite(after.close)] == 50.0).all()
    assert before.close[0, 0] != 50.0


def test_another_column_mapping_is_read_again(tmp_path: Path):
    path, cache = csv(long_table(), tmp_path / "bars.csv"), str(tmp_path / "cache")
    market(path, cache=cache).load()
    bars = market(path, cache=cache, columns={"close": "low"}).load()
    np.testing.assert_array_equal(bars.close, bars.low)


# -- the version, and data that change while they are read -----------------------------------------


@pytest.fixture
def whole(tmp_path: Path) -> FilesMarket:
    """Return a market of a folder with every kind of file."""
    (tmp_path / "prices").mkdir()
    csv(long_table().query("symbol == 'AAA'"), tmp_path / "prices" / "a.csv")
    csv(long_table().query("symbol != 'AAA'"), tmp_path / "prices" / "b.csv")
    vix = csv(pd.DataFrame({"date": DATES.astype(str), "close": 1.0}), tmp_path / "vix.csv")
    sectors = csv(pd.DataFrame({"symbol": SYMBOLS, "sector": "x"}), tmp_path / "sectors.csv")
    member = csv(
        pd.DataFrame({"symbol": SYMBOLS, "start_date": "2019-01-02", "end_date": ""}),
        tmp_path / "members.csv",
    )
    return market(
        tmp_path / "prices", series={"VIX": str(vix)}, sectors=str(sectors), membership=str(member)
    )


@pytest.mark.parametrize(
    "file", ["prices/a.csv", "prices/b.csv", "vix.csv", "sectors.csv", "members.csv"]
)
def test_the_version_changes_with_every_file(whole: FilesMarket, tmp_path: Path, file: str):
    before = whole.version()
    assert whole.version() == before
    with (tmp_path / file).open("a") as appended:
        appended.write("\n")
    assert whole.version() != before


def test_the_version_sees_a_file_replaced_by_one_of_its_size_and_time(
    whole: FilesMarket, tmp_path: Path
):
    before, path = whole.version(), tmp_path / "prices" / "a.csv"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    (tmp_path / "other").write_bytes(path.read_bytes()[::-1])
    os.utime(tmp_path / "other", ns=times)
    (tmp_path / "other").replace(path)
    assert path.stat().st_mtime_ns == times[1]
    assert whole.version() != before


def test_the_version_sees_a_new_file_and_a_lost_one(whole: FilesMarket, tmp_path: Path):
    versions = [whole.version()]
    (tmp_path / "prices" / "c.csv").write_text("date,symbol,close\n")
    versions.append(whole.version())
    for path in (tmp_path / "prices").iterdir():
        path.unlink()
    versions.append(whole.version())
    (tmp_path / "prices").rmdir()
    versions.append(whole.version())
    assert len(set(versions)) == 4


def test_files_of_no_concern_leave_the_version_alone(whole: FilesMarket, tmp_path: Path):
    before = whole.version()
    (tmp_path / "prices" / "c.csv.tmp").write_text("half of")
    (tmp_path / "prices" / "cache").mkdir()
    assert whole.version() == before


def test_the_version_knows_how_the_files_are_read(whole: FilesMarket):
    renamed = replace(whole, columns={"close": "low"})
    assert renamed.version() != whole.version()


def test_the_version_is_cheap_enough_for_every_second(whole: FilesMarket):
    whole.version()
    start = time.process_time()
    for _ in range(20):
        whole.version()
    assert (time.process_time() - start) / 20 < 0.01


@pytest.mark.parametrize("cached", [True, False])
def test_a_file_that_changes_while_it_is_read_is_refused_and_not_cached(
    tmp_path: Path, cached: bool
):
    path = csv(long_table(), tmp_path / "bars.csv")
    cache = tmp_path / "cache"
    calm = market(path, cache=str(cache) if cached else None)

    class Disturbed(FilesMarket):
        def _parsed(self) -> Bars:
            bars = FilesMarket._parsed(self)
            csv(long_table().assign(close=50.0), path)
            return bars

    disturbed = Disturbed(**asdict(calm))
    with pytest.raises(InputError, match=r"bars\.csv: the files changed while they were read"):
        disturbed.load()
    assert not cache.exists() or not list(cache.iterdir())
    assert calm.load().close[0, 0] == 50.0


# -- real data ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("dow30_ohlcv_1995_2019", 193_179),
        ("etf_ohlcv_to_2019", 38_886),
        ("sp500_ohlcv_2010_2019", 1_181_243),
    ],
)
def test_real_bars_pass_the_gate_as_it_is_shipped(name: str, rows: int):
    path = SHARED / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"the real data {path} are not on this machine")
    bars = load_bars(market(path), RULES)
    assert int(np.isfinite(bars.close).sum()) == rows
    assert int((bars.volume == 0).sum()) == int((bars.listed & ~bars.tradable).sum())
