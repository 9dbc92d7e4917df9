"""What `tercet gateway` and `tercet kill` say when something is missing: one line, no traceback."""

import pytest

KEYS = ("TERCET_PAPER_KEY_ID", "TERCET_PAPER_SECRET_KEY")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gateway",), "TERCET_PAPER_KEY_ID is not set"),
        (("gateway", "arm"), "account=<id>"),
        (("gateway", "frob"), "gateway knows no 'frob'"),
        (("gateway", "service.renew_s=20"), "at most half of permit_s"),
        (("gateway", "control.permit=redis"), "control.redis must be given"),
        (("gateway", "strategy.ramp=['1.5']"), "ramp must rise from above 0 to 1"),
        (("gateway", "service.host=0.0.0.0"), "lets others in"),
    ],
)
def test_a_mistake_is_one_line(tercet, arguments, words):
    result = tercet(*arguments)
    assert result.code == 2
    assert words in result.err and result.err.count("\n") == 1


def test_a_kill_without_keys_or_ledger_still_leaves_the_halt_file(tercet, tmp_path):
    halt = tmp_path / "HALT"
    result = tercet("kill", f"control.halt_file={halt}", "reason=because, well, of a test")
    assert result.code == 2
    assert "done" in result.out.splitlines()[0] and "HALT" in result.out.splitlines()[0]
    assert result.out.count("FAILED") == 5
    assert "because, well, of a test" in halt.read_text()
