"""The registry: what serves, what may, and the way back, with many hands at it."""

import json
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from agents import artefact, role_log
from agents.manifest import HASHES, MANIFEST, PARAMETERS, Manifest, identity
from agents.networks import PolicyNetwork
from agents.policies import ArtefactPolicy, ChampionPolicy
from agents.registry import DATABASE, Registry, artefact_of
from agents.signature import SIGNATURE
from market.errors import InputError

ROOT = Path(artefact.__file__).parents[1]


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory, record: Manifest) -> tuple[Path, ...]:
    """Return the folders of three artefacts."""
    folder = tmp_path_factory.mktemp("artefacts")
    for trials in (1, 2, 3):
        generator = torch.Generator().manual_seed(trials)
        networks = {n: PolicyNetwork(record.network, generator) for n in ("balanced", "aggressive")}
        artefact.save(folder / str(trials), networks, replace(record, trials=trials))
    return tuple(folder / str(trials) for trials in (1, 2, 3))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "runs" / "registry")


def roles(registry: Registry) -> tuple[str | None, ...]:
    state = registry.state()
    entries = (state.champion, state.previous, state.challenger)
    return tuple(None if entry is None else entry.sha256 for entry in entries)


def test_nothing_is_made_by_looking(registry: Registry) -> None:
    assert roles(registry) == (None, None, None)
    assert (registry.history(), registry.artefacts(), registry.state().revision) == ([], [], 0)
    for change in (registry.retire, registry.rollback):
        with pytest.raises(InputError, match=r"no challenger to retire|no previous champion"):
            change("nothing there")
    assert not registry.folder.exists()


def test_a_promotion_makes_the_champion_and_says_who_and_why(
    registry: Registry, artefacts: tuple[Path, ...]
) -> None:
    entry = registry.promote(artefacts[0], "  the first one  ")
    assert entry == registry.champion()
    assert entry.sha256 == identity(artefacts[0]) == identity(entry.folder)
    assert entry.agents == ("conservative", "balanced", "aggressive")
    assert (entry.universe, entry.code_version) == (7, "0.1.0")
    (event,) = registry.history()
    assert (event.revision, event.action, event.reason) == (1, "promote", "the first one")
    assert event.time.endswith("+00:00")
    assert "@" in event.actor
    assert event.code_version


def test_the_run_may_go_and_the_champion_stays(
    registry: Registry, artefacts: tuple[Path, ...], tmp_path: Path
) -> None:
    shutil.copytree(artefacts[0], tmp_path / "run" / "artefact")
    registry.promote(tmp_path / "run" / "artefact", "first")
    registry.promote(artefacts[1], "second")
    shutil.rmtree(tmp_path / "run")
    back = registry.rollback("the second was worse")
    assert artefact.load(back.folder).sha256 == identity(artefacts[0])


def test_a_rollback_exchanges_champion_and_previous(
    registry: Registry, artefacts: tuple[Path, ...]
) -> None:
    one, two, _ = (identity(folder) for folder in artefacts)
    registry.promote(artefacts[0], "first")
    with pytest.raises(InputError, match="no previous champion to roll back to"):
        registry.rollback("nothing there")
    registry.promote(artefacts[1], "second")
    assert roles(registry) == (two, one, None)
    registry.rollback("worse")
    assert roles(registry) == (one, two, None)
    registry.rollback("not so bad")
    assert roles(registry) == (two, one, None)
    assert [event.action for event in registry.history()] == ["promote"] * 2 + ["rollback"] * 2


def test_a_challenger_comes_changes_its_share_and_goes(
    registry: Registry, artefacts: tuple[Path, ...]
) -> None:
    one, two, three = (identity(folder) for folder in artefacts)
    with pytest.raises(InputError, match="no champion to challenge"):
        registry.challenge(artefacts[1], "too early", 0.0)
    registry.promote(artefacts[0], "first")
    registry.challenge(artefacts[1], "shadow", 0.0)
    registry.challenge(artefacts[1], "canary", 0.25)
    assert (roles(registry), registry.state().share) == ((one, None, two), 0.25)
    registry.challenge(artefacts[2], "another", 1.0)
    assert roles(registry) == (one, None, three)
    registry.retire("no better")
    assert (roles(registry), registry.state().share) == ((one, None, None), 0.0)
    with pytest.raises(InputError, match="no challenger to retire"):
        registry.retire("again")


def test_a_promoted_challenger_is_no_challenger_any_more(
    registry: Registry, artefacts: tuple[Path, ...]
) -> None:
    one, two, three = (identity(folder) for folder in artefacts)
    registry.promote(artefacts[0], "first")
    registry.challenge(artefacts[1], "try", 0.1)
    registry.promote(artefacts[2], "another")
    assert (roles(registry), registry.state().share) == ((three, one, two), 0.1)
    registry.promote(artefacts[1], "the challenger won")
    assert (roles(registry), registry.state().share) == ((two, three, None), 0.0)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_share_is_a_share(registry: Registry, artefacts: tuple[Path, ...], share: float) -> None:
    registry.promote(artefacts[0], "first")
    with pytest.raises(InputError, match=f"share must be in .*, was {share}"):
        registry.challenge(artefacts[1], "try", share)
    assert len(registry.history()) == 1
    assert not (registry.folder / identity(artefacts[1])).exists()


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "two\nlines", "\x1b[2J", "\ud800"])
def test_a_reason_is_one_line_of_words(
    registry: Registry, artefacts: tuple[Path, ...], reason: str
) -> None:
    for change in (
        lambda: registry.promote(artefacts[0], reason),
        lambda: registry.challenge(artefacts[0], reason, 0.1),
        lambda: registry.rollback(reason),
        lambda: registry.retire(reason),
    ):
        with pytest.raises(InputError, match="reason must be one line"):
            change()
    assert not registry.folder.exists()


def test_what_changes_nothing_is_refused(registry: Registry, artefacts: tuple[Path, ...]) -> None:
    registry.promote(artefacts[0], "first")
    with pytest.raises(InputError, match="is the champion already"):
        registry.promote(artefacts[0], "again")
    with pytest.raises(InputError, match="cannot challenge itself"):
        registry.challenge(artefacts[0], "again", 0.1)
    registry.challenge(artefacts[1], "try", 0.1)
    with pytest.raises(InputError, match=r"is the challenger at share=0\.1 already"):
        registry.challenge(artefacts[1], "again", 0.1)
    assert len(registry.history()) == 2


@pytest.mark.parametrize("name", [MANIFEST, PARAMETERS, HASHES])
def test_a_damaged_artefact_is_not_let_in(registry: Registry, folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is damaged"):
        registry.promote(folder, "first")
    assert not registry.folder.exists()


def test_an_artefact_whose_policies_do_not_load_is_not_let_in(
    registry: Registry, folder: Path, rewrite: Callable[..., None]
) -> None:
    rewrite(folder, parameters=b"right hashes, no tensors")
    with pytest.raises(InputError, match=PARAMETERS):
        registry.promote(folder, "first")
    assert not registry.folder.exists()


def test_a_run_in_the_place_of_its_artefact_is_named(
    registry: Registry, artefacts: tuple[Path, ...], tmp_path: Path
) -> None:
    shutil.copytree(artefacts[0], tmp_path / "run" / "artefact")
    with pytest.raises(InputError, match=r"did you mean path=.*run/artefact\?"):
        registry.promote(tmp_path / "run", "first")


@pytest.mark.parametrize("name", [MANIFEST, PARAMETERS, HASHES])
def test_a_damaged_copy_is_not_rolled_back_to_and_is_mended_by_a_promotion(
    registry: Registry, artefacts: tuple[Path, ...], name: str
) -> None:
    first = registry.promote(artefacts[0], "first")
    second = registry.promote(artefacts[1], "second")
    (first.folder / name).write_bytes(b"spoilt")
    with pytest.raises(InputError, match=f"{name} is damaged"):
        registry.rollback("worse")
    assert registry.champion() == second
    registry.promote(artefacts[0], "mended")
    assert artefact.load(first.folder).sha256 == first.sha256


def test_another_artefact_in_the_place_of_a_copy_is_refused(
    registry: Registry, artefacts: tuple[Path, ...]
) -> None:
    first = registry.promote(artefacts[0], "first")
    registry.promote(artefacts[1], "second")
    shutil.rmtree(first.folder)
    shutil.copytree(artefacts[2], first.folder)
    with pytest.raises(InputError, match="holds another artefact"):
        registry.rollback("worse")
    with pytest.raises(InputError, match="holds another artefact"):
        first.contents()


def test_rows_are_only_ever_added(registry: Registry, artefacts: tuple[Path, ...]) -> None:
    registry.promote(artefacts[0], "first")
    database = sqlite3.connect(registry.folder / DATABASE)
    for statement in (
        "DELETE FROM events",
        "UPDATE events SET reason = 'another'",
        "DELETE FROM artefacts",
        "UPDATE artefacts SET universe = 0",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
            database.execute(statement)
    database.close()


def test_policies_name_their_folder(registry: Registry, artefacts: tuple[Path, ...]) -> None:
    assert artefact_of(ArtefactPolicy("runs/one/artefact")) == Path("runs/one/artefact")
    policy = ChampionPolicy(str(registry.folder))
    with pytest.raises(InputError, match=r"has no champion: tercet promote path="):
        artefact_of(policy)
    entry = registry.promote(artefacts[0], "first")
    assert artefact_of(policy) == entry.folder
    (entry.folder / PARAMETERS).write_bytes(b"spoilt")
    with pytest.raises(InputError, match="is damaged"):
        artefact_of(policy)


# Databases that cannot be used.


def test_a_file_that_is_no_database_is_named(
    registry: Registry, artefacts: tuple[Path, ...]
) -> None:
    registry.folder.mkdir(parents=True)
    (registry.folder / DATABASE).write_bytes(b"not a database at all" * 100)
    for use in (registry.state, lambda: registry.promote(artefacts[0], "first")):
        with pytest.raises(InputError, match=rf"{DATABASE}: file is not a database"):
            use()


def test_a_database_cut_short_is_an_input_error_or_says_the_same(
    registry: Registry, artefacts: tuple[Path, ...]
) -> None:
    registry.promote(artefacts[0], "first")
    path, before = registry.folder / DATABASE, (registry.history(), registry.state())
    whole, refused = path.read_bytes(), 0
    for size in range(100, len(whole), 512):
        path.write_bytes(whole[:size])
        try:
            assert (registry.history(), registry.state()) == before
        except InputError as error:
            assert DATABASE in str(error)
            refused += 1
    assert refused > 10


def test_the_database_of_another_program_is_left_alone(
    registry: Registry, artefacts: tuple[Path, ...]
) -> None:
    registry.folder.mkdir(parents=True)
    database = sqlite3.connect(registry.folder / DATABASE)
    database.execute("CREATE TABLE mine (x)")
    database.commit()
    database.close()
    before = (registry.folder / DATABASE).read_bytes()
    for use in (registry.state, lambda: registry.promote(artefacts[0], "first")):
        with pytest.raises(InputError, match="is a database of another program"):
            use()
    assert (registry.folder / DATABASE).read_bytes() == before


def test_a_registry_of_a_later_format_is_refused(
    registry: Registry, artefacts: tuple[Path, ...]
) -> None:
    registry.promote(artefacts[0], "first")
    database = sqlite3.connect(registry.folder / DATABASE)
    database.execute("PRAGMA user_version = 2")
    database.close()
    for use in (registry.state, lambda: registry.promote(artefacts[1], "second")):
        with pytest.raises(InputError, match="format version 2, this program reads 1"):
            use()


def test_a_first_change_that_was_interrupted_leaves_a_registry_that_works(
    registry: Registry, artefacts: tuple[Path, ...]
) -> None:
    registry.folder.mkdir(parents=True)
    (registry.folder / DATABASE).touch()
    assert registry.champion() is None
    assert registry.promote(artefacts[0], "first") == registry.champion()


def test_a_locked_database_is_waited_for_and_then_named(
    registry: Registry, artefacts: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote(artefacts[0], "first")
    monkeypatch.setattr(role_log, "BUSY_S", 0.2)
    database = sqlite3.connect(registry.folder / DATABASE, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    assert registry.state().revision == 1  # a reader does not wait for a change to come
    with pytest.raises(InputError, match=r"another process has held it for 0\.2 s; try again"):
        registry.promote(artefacts[1], "second")
    database.execute("COMMIT")
    database.close()
    registry.promote(artefacts[1], "second")


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, artefacts: tuple[Path, ...]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Registry(tmp_path / "file").promote(artefacts[0], "first")
    with pytest.raises(InputError, match="cannot be written"):
        Registry(Path("/proc/nowhere")).promote(artefacts[0], "first")


def _use_without_rights(folder: Path, other: Path, end: Connection) -> None:
    if os.getuid() == 0:
        os.setuid(65534)
    registry = Registry(folder)
    champion = registry.champion()
    assert champion is not None
    end.send(champion.contents().sha256)
    for change in (lambda: registry.promote(other, "second"), lambda: registry.retire("why")):
        try:
            change()
        except InputError as error:
            end.send(str(error))


def test_a_registry_that_cannot_be_written_can_be_read(artefacts: tuple[Path, ...]) -> None:
    with TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        registry = Registry(Path(place) / "registry")
        one, two = (shutil.copytree(a, Path(place) / a.name) for a in artefacts[:2])
        entry = registry.promote(one, "first")
        registry.challenge(two, "try", 0.5)
        three = shutil.copytree(artefacts[2], Path(place) / "three")
        registry.folder.chmod(0o555)
        (registry.folder / DATABASE).chmod(0o444)
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        worker = context.Process(target=_use_without_rights, args=(registry.folder, three, theirs))
        worker.start()
        worker.join()
        registry.folder.chmod(0o755)
        assert worker.exitcode == 0
        assert ours.recv() == entry.sha256
        assert "cannot be written: Permission denied" in ours.recv()
        assert "attempt to write a readonly database" in ours.recv()
        assert registry.state().revision == 2


# Many hands.


def _promote_often(folder: Path, artefacts: tuple[Path, ...], worker: int, times: int) -> None:
    registry = Registry(folder)
    for i in range(times):
        try:
            registry.promote(artefacts[(worker + i) % len(artefacts)], f"worker {worker}, {i}")
        except InputError as error:
            assert "is the champion already" in str(error), error


def test_many_processes_change_the_roles_one_after_the_other(
    registry: Registry, artefacts: tuple[Path, ...]
) -> None:
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_promote_often, args=(registry.folder, artefacts, i, 8))
        for i in range(4)
    ]
    for worker in workers:
        worker.start()
    revisions = []
    while any(worker.is_alive() for worker in workers):
        revisions.append(registry.state().revision)
        time.sleep(0.005)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert revisions == sorted(revisions)
    events = registry.history()
    assert [event.revision for event in events] == list(range(1, len(events) + 1))
    assert len(events) >= 8
    for before, after in pairwise(events):
        assert after.roles.previous == before.roles.champion  # no change was lost
        assert after.roles.champion != before.roles.champion
    assert {path.name for path in registry.folder.iterdir()} == {
        DATABASE,
        *(identity(folder) for folder in artefacts),
    }


def test_threads_of_one_process_may_promote_the_same_artefact_at_once(
    registry: Registry, artefacts: tuple[Path, ...]
) -> None:
    said: list[str] = []

    def promote() -> None:
        try:
            registry.promote(artefacts[0], "first")
            said.append("promoted")
        except InputError as error:
            said.append(str(error))

    threads = [Thread(target=promote) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said.count("promoted") == 1
    assert all("is the champion already" in line for line in said if line != "promoted")


def _exchange_for_ever(folder: Path, artefacts: tuple[Path, ...]) -> None:
    registry = Registry(folder)
    while True:
        for one in artefacts:
            with suppress(InputError):  # the champion already, at the first
                registry.promote(one, "exchanged")


def test_a_killed_command_leaves_whole_changes_only(
    registry: Registry, artefacts: tuple[Path, ...]
) -> None:
    context = multiprocessing.get_context("fork")
    count = 0
    for delay in (0.0, 0.003, 0.007, 0.011, 0.016, 0.022, 0.03):
        worker = context.Process(target=_exchange_for_ever, args=(registry.folder, artefacts))
        worker.start()
        while registry.state().revision == count and worker.is_alive():
            time.sleep(0.001)
        time.sleep(delay)
        worker.kill()
        worker.join()
        state, events = registry.state(), registry.history()
        assert [event.revision for event in events] == list(range(1, state.revision + 1))
        assert state.revision > count
        count = state.revision
        for before, after in pairwise(events):
            assert after.roles.previous == before.roles.champion
        for entry in registry.artefacts():
            assert artefact.load(entry.folder).sha256 == entry.sha256
    names = {identity(folder): folder for folder in artefacts}
    other = next(name for name in names if roles(registry)[0] != name)
    registry.promote(names[other], "the next command goes on from there")


def test_roles_are_read_without_torch() -> None:
    program = "import sys, agents.registry; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_the_state_is_cheap_enough_to_be_read_every_second(
    registry: Registry, artefacts: tuple[Path, ...]
) -> None:
    registry.promote(artefacts[0], "first")
    started = time.perf_counter()
    for _ in range(100):
        registry.state()
    assert (time.perf_counter() - started) / 100 < 0.01


# Signatures.


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "k.pem", tmp_path / "p.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_the_copy_is_signed_with_the_key(
    registry: Registry, artefacts: tuple[Path, ...], keys: tuple[Path, Path]
) -> None:
    private, public = keys
    entry = registry.promote(artefacts[0], "first", private_key=private)
    assert entry.contents(public).sha256 == entry.sha256
    assert not (artefacts[0] / SIGNATURE).exists()  # the run is left as it was
    registry.promote(artefacts[1], "unsigned")
    assert registry.rollback("signed", public) == entry
    with pytest.raises(InputError, match="is not signed"):
        registry.rollback("not signed", public)
    assert registry.champion() == entry


def test_an_artefact_that_is_not_signed_is_not_let_in(
    registry: Registry, artefacts: tuple[Path, ...], keys: tuple[Path, Path]
) -> None:
    with pytest.raises(InputError, match="is not signed"):
        registry.promote(artefacts[0], "first", public_key=keys[1])
    assert not registry.folder.exists()


def test_a_signature_comes_along_and_a_bad_one_never_takes_the_place_of_a_good_one(
    registry: Registry, artefacts: tuple[Path, ...], keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    signed = Registry(tmp_path / "other").promote(artefacts[0], "to sign", private_key=private)
    entry = registry.promote(signed.folder, "first", public_key=public)
    assert entry.contents(public).sha256 == entry.sha256
    registry.promote(artefacts[1], "second")
    shutil.copytree(artefacts[0], tmp_path / "forged")
    (tmp_path / "forged" / SIGNATURE).write_bytes(b"forged")
    registry.promote(tmp_path / "forged", "nobody asked who signed it")
    assert entry.contents(public).sha256 == entry.sha256


# Any order of changes.


class Changes(RuleBasedStateMachine):
    """Every order of changes against a model of three variables."""

    artefacts: tuple[Path, ...]
    folders: list[Path]

    def __init__(self) -> None:
        super().__init__()
        place = self.artefacts[0].parent / f"registry{len(self.folders)}"
        self.folders.append(place)
        self.registry = Registry(place)
        self.names = [identity(folder) for folder in self.artefacts]
        self.champion: str | None = None
        self.previous: str | None = None
        self.challenger: tuple[str | None, float] = (None, 0.0)
        self.count = 0

    def attempt(self, allowed: bool, change: Callable[[], object]) -> bool:
        """Do a change that must succeed exactly where it is allowed."""
        try:
            change()
        except InputError:
            assert not allowed
            return False
        assert allowed
        self.count += 1
        return True

    def crown(self, name: str) -> None:
        self.champion, self.previous = name, self.champion
        if self.challenger[0] == name:
            self.challenger = (None, 0.0)

    @rule(which=st.integers(0, 2))
    def promote(self, which: int) -> None:
        name = self.names[which]
        allowed = name != self.champion
        if self.attempt(allowed, lambda: self.registry.promote(self.artefacts[which], "why")):
            self.crown(name)

    @rule(which=st.integers(0, 2), share=st.sampled_from([0.0, 0.1, 1.0]))
    def challenge(self, which: int, share: float) -> None:
        name = self.names[which]
        allowed = self.champion not in (None, name) and self.challenger != (name, share)
        if self.attempt(
            allowed, lambda: self.registry.challenge(self.artefacts[which], "why", share)
        ):
            self.challenger = (name, share)

    @rule()
    def retire(self) -> None:
        if self.attempt(self.challenger[0] is not None, lambda: self.registry.retire("why")):
            self.challenger = (None, 0.0)

    @rule()
    def rollback(self) -> None:
        previous = self.previous
        if self.attempt(previous is not None, lambda: self.registry.rollback("why")):
            assert previous is not None
            self.crown(previous)

    @invariant()
    def the_roles_are_those_of_the_model(self) -> None:
        assert roles(self.registry) == (self.champion, self.previous, self.challenger[0])
        state = self.registry.state()
        assert (state.revision, state.share) == (self.count, self.challenger[1])


def test_any_order_of_changes_gives_the_roles_of_the_model(artefacts: tuple[Path, ...]) -> None:
    machine = type("Machine", (Changes,), {"artefacts": artefacts, "folders": []})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=8, stateful_step_count=10, deadline=None)
    )


def test_the_log_of_roles_is_plain_sqlite(registry: Registry, artefacts: tuple[Path, ...]) -> None:
    """Somebody without this program can read who serves."""
    registry.promote(artefacts[0], "first")
    database = sqlite3.connect(registry.folder / DATABASE)
    (row,) = database.execute("SELECT champion, reason FROM events").fetchall()
    (integrity,) = database.execute("PRAGMA integrity_check").fetchone()
    database.close()
    assert row == (identity(artefacts[0]), "first")
    assert integrity == "ok"
    assert json.loads((registry.folder / row[0] / MANIFEST).read_text())["trials"] == 1
