import subprocess
import sys
from importlib.metadata import version

import pytest

from cli.__main__ import VERBS
from cli.bench import SUBVERBS


def test_the_version_is_that_of_the_distribution(tercet):
    assert tercet("--version").out == f"tercet {version('tercet')}\n"


def test_the_usage_names_every_verb(tercet):
    result = tercet("--help")
    assert result.code == 0
    assert all(f"  {verb} " in result.out for verb in VERBS)


def test_without_a_verb_the_usage_is_shown_as_an_error(tercet):
    assert tercet().code == 2


def test_doctor_finds_this_installation_in_order(tercet):
    result = tercet("doctor")
    assert result.code == 0
    assert "embedded: 20 symbols" in result.out


def test_doctor_says_whether_the_brokers_keys_are_set_and_never_what_they_are(tercet, monkeypatch):
    monkeypatch.delenv("APCA_API_KEY_ID", raising=False)
    monkeypatch.setenv("APCA_API_SECRET_KEY", "hidden")
    assert "not set: APCA_API_KEY_ID" in tercet("doctor").out
    monkeypatch.setenv("APCA_API_KEY_ID", "hidden")
    found = tercet("doctor").out
    assert "set, for https://paper-api.alpaca.markets" in found
    assert "hidden" not in found
    monkeypatch.setenv("APCA_API_KEY_ID", "hid den")
    with pytest.raises(SystemExit):
        tercet("doctor")


def test_doctor_fails_where_the_market_does_not_load(tercet):
    with pytest.raises(SystemExit) as stopped:
        tercet("doctor", "market=files", "market.path=nowhere.csv")
    assert stopped.value.code == 1


def test_a_verb_with_subverbs_lists_them_before_the_help_of_its_configuration(tercet, capsys):
    with pytest.raises(SystemExit) as stopped:
        tercet("bench", "--help")
    assert stopped.value.code == 0
    subverbs, _, configuration = capsys.readouterr().out.partition("powered by Hydra")
    assert all(f"  {name} " in subverbs for name in SUBVERBS)
    assert "repeats: 5" in configuration


@pytest.mark.parametrize("arguments", [("seed=7", "--cfg", "job"), ("--cfg", "job", "seed=7")])
def test_overrides_may_stand_on_both_sides_of_an_option(tercet, arguments):
    assert "\nseed: 7\n" in tercet("backtest", *arguments).out


def test_a_subverb_can_be_composed_without_being_run(tercet):
    result = tercet("bench", "kernel", "repeats=2", "--cfg", "job")
    assert "subverb: kernel" in result.out
    assert "repeats: 2" in result.out


def test_a_reader_that_has_seen_enough_causes_no_traceback() -> None:
    command = "-c 'from cli.__main__ import main; import sys; sys.exit(main())' bench --help"
    done = subprocess.run(
        f"{sys.executable} {command} | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr


def test_doctor_fails_where_the_champion_cannot_be_read(tercet, tmp_path):
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "registry.sqlite").write_bytes(b"no database" * 99)
    with pytest.raises(SystemExit):
        tercet("doctor", f"registry={tmp_path / 'registry'}")
