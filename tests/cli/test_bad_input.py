"""Everything a user can get wrong ends in one line and exit code 2, with nothing written over."""

from pathlib import Path

import pytest
import torch

SMALL = ("market=synthetic", "market.sessions=800", "market.assets=5", "market.cache=null")
FILES = ("market=files", "market.path=prices.csv", "market.cache=null")


def one_line(result, *words: str) -> None:
    """Assert exit code 2 and a single line that names all of `words`."""
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("tercet: ")
    assert result.err.count("\n") == 1, result.err
    for word in words:
        assert word in result.err


@pytest.mark.parametrize("verb", ["train", "backtest"])
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("env.costs.spred_bp=2", ("env.costs.spred_bp", "env.costs.spread_bp")),
        ("sed=1", ("sed", "seed")),
        ("env.costs=free", ("env.costs", "env/costs=free")),
        ("env/costs=fre", ("env/costs=fre", "free")),
        ("market=embeded", ("market=embeded", "embedded")),
        ("agents.balanced.limits=free", ("agents.balanced.limits", "limits@agents.balanced")),
        ("env.costs.spread_bp=abc", ("env.costs.spread_bp", "abc")),
        ("seed=abc", ("seed", "abc")),
        ("env.costs.spread_bp=-1", ("env.costs.spread_bp", "-1")),
        ("agents.balanced.limits.max_weight=1.5", ("agents.balanced.limits.max_weight", "1.5")),
        ("market.symbols=[AAPL]", ("at least 2", "AAPL")),
        ("market.symbols=[AAPL,MSFTT]", ("MSFTT", "MSFT")),
        ("market.train=[1990-01-02,2013-06-03]", ("market.test", "market.train", "embargo")),
        ("market.test=[2030-01-02,2031-01-02]", ("market.test", "2030-01-02")),
        ("env/costs=impact", ("impact", "market.assumed_adv")),
        ("nonsense", ("nonsense", "key=value")),
        ("+market.symbols.0=A", ("+market.symbols.0=A",)),
        ("=3", ("=3", "key=value")),
        ("agents=5", ("agents=5", "five")),
        ("env=null", ("env=null", "default")),
        ("+market.foo=1", ("market.foo",)),
        ("++agents.balanced.foo=1", ("agents.balanced.foo",)),
        ("seed=-1", ("seed", "-1")),
        ("env.capital=1e308", ("capital", "1e+308")),
        ("market.train=[1990-01-02,2012-02-30]", ("market.train", "2012-02-30")),
    ],
)
def test_a_wrong_override_is_named(tercet, verb, override, words):
    one_line(tercet(verb, override), *words)


def test_an_unknown_verb_is_named_with_the_nearest_one(tercet):
    one_line(tercet("trian"), "trian", "train")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("bench needs one of", "kernel", "all")),
        (("repeats=2",), ("bench needs one of", "kernel", "all")),
        (("kernle",), ("'kernle'", "nearest: kernel")),
        (("zzzz",), ("'zzzz'", "kernel", "features")),
        (("kernel", "repeats=0"), ("repeats", "0")),
        (("kernel", "threads=0"), ("threads", "0")),
        (("kernel", "device=gpu"), ("device", "gpu", "cuda")),
        (("kernel", "repeat=2"), ("repeat", "repeats")),
        (("kernel", "sample"), ("sample", "key=value")),
    ],
)
def test_a_benchmark_that_cannot_be_run_is_named(tercet, arguments, words):
    one_line(tercet("bench", *arguments), *words)


def test_a_key_of_another_choice_of_its_group_is_named(tercet):
    one_line(tercet("train", "pretrain=none", "pretrain.updates=5"), "pretrain.updates", "groups")


def test_a_missing_value_says_how_to_give_it(tercet):
    one_line(tercet("backtest", "market=files"), "market.path")


def test_a_missing_file_is_named(tercet):
    one_line(tercet("backtest", "market=files", "market.path=nowhere.csv"), "nowhere.csv")


def test_an_empty_file_is_named(tercet, prices: Path):
    prices.write_text("")
    one_line(tercet("backtest", *FILES), "prices.csv", "empty")


def test_a_malformed_csv_is_named_with_its_line(tercet, prices: Path):
    prices.write_text("date,symbol,close\n2015-01-02,AAA,1.0\n2015-01-02,BBB,1.0,7,8\n")
    one_line(tercet("backtest", *FILES), "prices.csv")


def test_a_duplicate_date_is_named(tercet, prices: Path):
    lines = prices.read_text().splitlines()
    prices.write_text("\n".join([*lines[:10], lines[9], *lines[10:]]) + "\n")
    date, symbol, _ = lines[9].split(",")
    one_line(tercet("backtest", *FILES), "prices.csv", date, symbol)


def test_a_missing_price_is_refused_under_refuse(tercet, prices: Path):
    lines = prices.read_text().splitlines()
    date, symbol, _ = lines[50].split(",")
    lines[50] = f"{date},{symbol},"
    prices.write_text("\n".join(lines) + "\n")
    one_line(tercet("backtest", *FILES, "quality=refuse"), "prices.csv", date, symbol)


def test_a_run_is_never_written_over(tercet, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    kept = tmp_path / "mine" / "summary.json"
    kept.write_text("precious")
    one_line(tercet("backtest", "out=mine"), "mine", "not empty")
    assert kept.read_text() == "precious"


def test_an_artefact_that_is_not_there_is_named(tercet):
    one_line(tercet("backtest", "policy=artefact", "policy.path=nowhere"), "nowhere")


def test_a_symbol_outside_the_universe_is_named(tercet):
    result = tercet("backtest", "policy=fixed", "policy.weights={AAPL:0.5,BRK.B:0.3}")
    one_line(result, "BRK.B")


def test_a_refused_policy_leaves_no_run_behind(tercet, tmp_path: Path):
    tercet("backtest", "policy=fixed", "policy.weights={NOPE:0.5}")
    assert not (tmp_path / "runs").exists()


def test_shares_for_another_number_of_agents_are_refused_before_training(tercet, tmp_path: Path):
    result = tercet("train", "ensemble.by_agent=[0.5,0.5]", "algorithm=none", "tracking=none")
    one_line(result, "ensemble.by_agent", "2 shares for 3 agents")
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_refused_before_training(tercet, tmp_path: Path):
    one_line(tercet("train", "algorithm.device=cuda", "tracking=none"), "algorithm.device=cuda")
    assert not (tmp_path / "runs").exists()


def test_actors_without_room_are_refused_before_training(tercet, tmp_path: Path):
    result = tercet("train", *SMALL, "algorithm.num_env_runners=1000", "algorithm.device=cpu")
    one_line(result, "algorithm.num_env_runners=1000", "1000 CPUs", "available", "cluster.wait")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("key", ["columns", "series"])
def test_a_mapping_of_names_is_a_plain_override(tercet, prices: Path, key):
    mapping = {"columns": "{close: Adj Close}", "series": "{VIX: Adj Close.csv}"}[key]
    one_line(tercet("backtest", *FILES, f"market.{key}={mapping}"), "Adj Close")


def test_a_mapping_of_names_that_is_none_is_named(tercet, prices: Path):
    one_line(tercet("backtest", *FILES, "market.columns=close"), "market.columns", "close")


def test_a_separator_other_than_the_comma_is_named(tercet, prices: Path):
    prices.write_text(prices.read_text().replace(",", ";"))
    one_line(tercet("backtest", *FILES), "prices.csv", "';'")


def test_two_columns_of_one_name_are_refused(tercet, prices: Path):
    lines = prices.read_text().splitlines()
    prices.write_text("\n".join([f"{lines[0]},close", *(f"{line},9" for line in lines[1:])]) + "\n")
    one_line(tercet("backtest", *FILES), "prices.csv", "'close'")
