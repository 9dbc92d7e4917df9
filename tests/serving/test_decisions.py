import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.errors import InputError
from risk.access.errors import NotAnswered, Reason
from serving.decision_file import BUSY_TIMEOUT_S
from serving.decisions import Decision, DecisionLog, Recorded

DAY = "2022-12-28"


def decision(
    name: str, account: str | None = "fund-1", model: str = "a", day: str = DAY
) -> Decision:
    return Decision(
        id=name,
        account=account,
        as_of=day,
        model_sha256=model,
        request="{}",
        answer={"decision_id": name, "supersedes": None, "expires_at": "2100-01-01T00:00:00Z"},
        explanation_key=f"{model} {day}",
        explanation={"agents": {"balanced": model}},
    )


def record(log: DecisionLog, *decisions: Decision) -> list[Recorded]:
    """Record them all at once."""

    async def together() -> list[Recorded]:
        return await asyncio.gather(*(log.record(one) for one in decisions))

    return asyncio.run(together())


def standing(path: Path) -> list[tuple[str, str]]:
    """Return account and session of every submittable decision, as another reader sees them."""
    with sqlite3.connect(path) as db:
        found: list[tuple[str, str]] = db.execute(
            "SELECT account, as_of FROM decisions "
            "WHERE superseded_by IS NULL AND account IS NOT NULL ORDER BY account, as_of"
        ).fetchall()
    return found


def test_a_second_decision_of_the_same_account_and_session_names_what_it_supersedes(
    log: DecisionLog,
) -> None:
    first, second, third = (record(log, decision(name))[0] for name in "123")
    assert [r.answer["supersedes"] for r in (first, second, third)] == [None, "1", "2"]
    found = asyncio.run(log.get("1"))
    assert found is not None and found[0].superseded_by == "2"


def test_decisions_of_other_accounts_or_sessions_stand_beside_each_other(log: DecisionLog) -> None:
    record(log, decision("1"))
    other = record(log, decision("2", "fund-2"), decision("3", day="2022-12-29"))
    assert [r.answer["supersedes"] for r in other] == [None, None]
    assert len(standing(log.path)) == 3


def test_advice_to_nobody_neither_supersedes_nor_is_superseded(log: DecisionLog) -> None:
    advice = record(log, decision("1", None), decision("2", None), decision("3"))
    assert [r.answer["supersedes"] for r in advice] == [None, None, None]


def test_an_old_question_asked_again_does_not_become_submittable_again(log: DecisionLog) -> None:
    record(log, decision("1"))
    record(log, decision("2"))
    again = record(log, decision("1"))[0]
    assert (again.new, again.superseded_by, again.answer["supersedes"]) == (False, "2", None)
    assert standing(log.path) == [("fund-1", DAY)]


def test_after_a_rollback_the_decision_of_the_old_model_takes_its_place_again(
    log: DecisionLog,
) -> None:
    record(log, decision("1", model="a"))
    record(log, decision("2", model="b"))
    back = record(log, decision("1", model="a"))[0]
    assert (back.new, back.superseded_by, back.answer["supersedes"]) == (False, None, "2")
    bad = asyncio.run(log.get("2"))
    assert bad is not None and bad[0].superseded_by == "1"
    assert standing(log.path) == [("fund-1", DAY)]


@given(
    st.lists(
        st.tuples(st.sampled_from("pq"), st.sampled_from(["1", "2"]), st.sampled_from("abc")),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=25, deadline=None)
def test_one_decision_stands_whatever_is_asked_in_whatever_order(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[str, str, str]]
) -> None:
    log = DecisionLog(tmp_path_factory.mktemp("log") / "d.sqlite")
    for account, question, model in asked:
        got = record(log, decision(f"{account}{question}{model}", account, model))[0]
        assert got.superseded_by is None or got.superseded_by.startswith(account)
    assert [account for account, _ in standing(log.path)] == sorted({a for a, _, _ in asked})
    account, _, model = asked[-1]
    last = standing_now(log, "".join(asked[-1]))
    assert (last[0], last[2]) == (account, model)
    log.close()


def standing_now(log: DecisionLog, name: str) -> str:
    """Return the decision that stands, found by following who superseded whom."""
    for _ in range(100):
        found = asyncio.run(log.get(name))
        assert found is not None
        if found[0].superseded_by is None:
            return name
        name = found[0].superseded_by
    raise AssertionError(f"{name} lies on a circle")


def test_sixty_four_identical_callers_get_one_decision(log: DecisionLog) -> None:
    got = record(log, *[decision("1")] * 64)
    assert sum(r.new for r in got) == 1
    assert all(r.answer == got[0].answer and r.superseded_by is None for r in got)


def test_sixty_four_different_callers_form_one_chain(log: DecisionLog) -> None:
    got = record(log, *(decision(str(i)) for i in range(64)))
    assert all(r.new for r in got)
    superseded = {r.answer["supersedes"] for r in got}
    assert len(superseded) == 64 and None in superseded
    assert standing(log.path) == [("fund-1", DAY)]


def test_an_explanation_is_kept_once_for_all_who_share_it(log: DecisionLog) -> None:
    record(log, *(decision(str(i), f"fund-{i}") for i in range(10)))
    with sqlite3.connect(log.path) as db:
        assert db.execute("SELECT count(*) FROM explanations").fetchone() == (1,)
    found = asyncio.run(log.get("7"))
    assert found is not None and found[1] == {"agents": {"balanced": "a"}}


def test_an_unknown_id_is_none(log: DecisionLog) -> None:
    assert asyncio.run(log.get("1' OR '1'='1")) is None


def test_shadows_are_kept_beside_the_decision_and_a_wrong_one_harms_nobody(
    log: DecisionLog,
) -> None:
    async def several() -> list[Any]:
        work = [
            log.record(decision("1")),
            log.record_shadow("no such decision", "b", {"CASH": 1.0}, 0.5),
            log.record_shadow("1", "b", {"CASH": 1.0}, 0.5),
            log.record_shadow("1", "b", {"CASH": 0.0}, 0.9),
        ]
        return await asyncio.gather(*work, return_exceptions=True)

    recorded, wrong, *right = asyncio.run(several())
    assert isinstance(recorded, Recorded) and recorded.new
    assert isinstance(wrong, NotAnswered)
    assert right == [None, None]
    expected = {"model_sha256": "b", "weights": {"CASH": 1.0}, "distance": 0.5}
    assert asyncio.run(log.shadows("1")) == [expected]


def test_a_decision_outlives_a_process_that_is_killed_right_after_the_answer(
    tmp_path: Path,
) -> None:
    path = tmp_path / "d.sqlite"
    script = PROCESS + "run(log, [decision('1')]); os.kill(os.getpid(), signal.SIGKILL)"
    done = run_process(script, path)
    assert done.wait() == -signal.SIGKILL
    log = DecisionLog(path)
    assert record(log, decision("1"))[0].new is False
    log.close()


def test_four_processes_on_one_file_agree_on_what_stands(tmp_path: Path) -> None:
    path = tmp_path / "d.sqlite"
    script = PROCESS + (
        "me = sys.argv[2]\n"
        "for i in range(10): run(log, [decision(f'{me}-{i}-{k}', f'f{k}') for k in range(8)])\n"
        "run(log, [decision('shared', 'shared')] * 8); log.close()"
    )
    processes = [run_process(script, path, str(i)) for i in range(4)]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    assert [account for account, _ in standing(path)] == [*(f"f{k}" for k in range(8)), "shared"]
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM decisions").fetchone() == (4 * 80 + 1,)
        named = db.execute("SELECT supersedes FROM decisions WHERE supersedes NOT NULL").fetchall()
        assert len(named) == len(set(named)) == 4 * 80 - 8
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_locked_file_is_an_error_with_its_reason_and_later_works_again(log: DecisionLog) -> None:
    other = sqlite3.connect(log.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    with pytest.raises(NotAnswered, match="locked") as caught:
        record(log, decision("1"))
    assert caught.value.reason is Reason.store_failed
    assert caught.value.retry_after is not None
    assert time.monotonic() - started < BUSY_TIMEOUT_S + 1.0
    assert asyncio.run(log.get("1")) is None  # reading goes on meanwhile
    other.execute("ROLLBACK")
    other.close()
    assert record(log, decision("1"))[0].new


def test_a_full_disk_is_an_error_with_its_reason_and_later_works_again(tmp_path: Path) -> None:
    script = PROCESS + (
        "import resource\n"
        "from risk.access.errors import NotAnswered\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))\n"
        "failed = kept = 0\n"
        "for i in range(40):\n"
        "    try: run(log, [decision(f'{i}-{k}' * 50, f'f{k}') for k in range(4)]); kept += 1\n"
        "    except NotAnswered as e: failed += 1; assert e.reason.status == 503, e\n"
        "assert kept and failed, (kept, failed)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "run(log, [decision('after')]); log.close()"
    )
    path = tmp_path / "d.sqlite"
    assert run_process(script, path).wait() == 0
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM decisions WHERE id = 'after'").fetchone() == (1,)


def test_who_stops_waiting_for_a_locked_file_holds_up_nobody_else(log: DecisionLog) -> None:
    async def impatient() -> None:
        waiting = asyncio.create_task(log.record(decision("1", "patient")))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(log.record(decision("2")), 0.1)
        other.execute("ROLLBACK")
        assert (await waiting).new
        assert (await log.record(decision("3"))).new

    other = sqlite3.connect(log.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    asyncio.run(impatient())
    other.close()
    assert standing(log.path) == [("fund-1", DAY), ("patient", DAY)]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"not a database, but long enough to be taken for one" * 9),
        lambda path: path.mkdir(),
        lambda path: foreign(path, "CREATE TABLE other (x)"),
        lambda path: foreign(path, "PRAGMA user_version = 99"),
    ],
    ids=["garbage", "folder", "another program's", "another format"],
)
def test_a_file_that_is_no_log_is_refused_and_left_alone(
    tmp_path: Path, spoil: Callable[[Path], Any]
) -> None:
    path = tmp_path / "d.sqlite"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError, match=r"d\.sqlite") as caught:
        DecisionLog(path)
    assert "\n" not in str(caught.value)
    assert before == (path.read_bytes() if path.is_file() else None)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"d\.sqlite"):
        DecisionLog(tmp_path / "file" / "d.sqlite")


def foreign(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute(statement)


PROCESS = """
import asyncio, os, signal, sys
from pathlib import Path
from serving.decisions import Decision, DecisionLog

def decision(name, account="fund-1"):
    answer = {"decision_id": name, "supersedes": None, "expires_at": "2100-01-01T00:00:00Z"}
    return Decision(name, account, "2022-12-28", "a", "{}", answer, "key", {"agents": {}})

def run(log, decisions):
    async def together():
        return await asyncio.gather(*(log.record(one) for one in decisions))
    return asyncio.run(together())

log = DecisionLog(Path(sys.argv[1]))
"""


def run_process(script: str, *arguments: object) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-c", script, *map(str, arguments)]
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        words, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, stderr=subprocess.DEVNULL
    )
