"""Hostile artefacts offered to serving by every door: none is executed, the good one stays.

An artefact comes in by a promotion, or somebody puts it where the registry keeps its own. Both are
tried with each: damaged and cut ones, ones of another maker, code in every form that a careless
loader would run, archives that unpack to gigabytes, links out of the folder, headers that lie, and
ones that are signed as they should be and hold nonsense. What runs is watched by Python's own audit
events beside a canary that every payload would set free.
"""

import gzip
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import isfinite
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes

from agents.manifest import HASHES, MANIFEST, PARAMETERS, hashes_of, identity
from agents.policies import ChampionPolicy
from agents.registry import Registry
from agents.signature import SIGNATURE, signed
from market.errors import InputError
from risk.access.errors import NotAnswered
from serving.questions import CASH, Opinion, Question
from serving.routing import ModelRole
from serving.seat import Seat
from serving.sources import OwnSources

OFFERS, SOAK_OFFERS = 100, 2_000
SEED = 2_930
SESSIONS = 10  # since training: a model that is opened plays them all
SLOWEST_S = 20.0  # of one offer, on a machine with other work
FILES = (MANIFEST, PARAMETERS, HASHES)
TODAY = Question(None, None, None)
# Events that nothing of reading an artefact raises, once torch is warm.
FORBIDDEN = frozenset({
    "pickle.find_class", "marshal.loads", "exec", "os.system", "os.exec", "os.posix_spawn",
    "os.fork", "os.forkpty", "subprocess.Popen", "ctypes.dlopen", "socket.connect", "pty.spawn",
    "webbrowser.open", "shutil.unpack_archive", "code.__new__",
})  # fmt: skip


@dataclass
class Watch:
    """What the interpreter has been told to do while somebody listened."""

    listening: bool = False
    heard: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        own = event == "subprocess.Popen" and arguments[0] == "git"  # asks for our own version
        if self.listening and event in FORBIDDEN and not own:
            self.heard.append(f"{event} {str(arguments)[:200]}")


WATCH = Watch()


@contextmanager
def watched() -> Iterator[None]:
    """Listen to the audit events of a block; a hook that is there once stays for the process."""
    if not getattr(sys, "_tercet_watch", False):
        sys.addaudithook(WATCH)
        sys._tercet_watch = True  # type: ignore[attr-defined]
    WATCH.heard.clear()
    WATCH.listening = True
    try:
        yield
    finally:
        WATCH.listening = False


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.makedirs, (str(self.canary / "pickle"),)


@dataclass
class Maker:
    """Makes hostile artefacts out of a good one.

    Args:
        good: folder of the good one.
        older: folder of another one that was good once.
        canary: folder that stays empty unless a payload runs.
        draw: of everything.
        bombs: archives that unpack to much more than they are.
    """

    good: Path
    older: Path
    canary: Path
    draw: Random
    bombs: tuple[bytes, ...]

    def flip(self, folder: Path) -> None:
        """Change a few bits."""
        path = folder / self.draw.choice((*FILES, SIGNATURE))
        content = bytearray(path.read_bytes())
        for _ in range(self.draw.choice([1, 1, 2, 8, 64])):
            content[self.draw.randrange(len(content))] ^= 1 << self.draw.randrange(8)
        path.write_bytes(content)

    def cut(self, folder: Path) -> None:
        """Leave a part out, or add something."""
        path = folder / self.draw.choice((*FILES, SIGNATURE))
        content = path.read_bytes()
        at = self.draw.randrange(len(content))
        more = self.draw.randbytes(self.draw.choice([1, 100, 10_000]))
        path.write_bytes(self.draw.choice([content[:at], content[at:], content + more, b""]))

    def lose(self, folder: Path) -> None:
        """Take a file away."""
        (folder / self.draw.choice((*FILES, SIGNATURE))).unlink()

    def pickled(self, folder: Path) -> None:
        """Put code in the place of a file, as a pickle of one kind or another."""
        trap = {"balanced/own_weight": Trap(self.canary)}
        kind = self.draw.randrange(9)
        if kind <= pickle.HIGHEST_PROTOCOL:
            content = pickle.dumps(trap, kind)
        elif kind in (6, 7):
            buffer = io.BytesIO()
            torch.save(trap, buffer, _use_new_zipfile_serialization=kind == 6)
            content = buffer.getvalue()
        else:
            buffer = io.BytesIO()
            np.save(buffer, np.array([Trap(self.canary)], dtype=object), allow_pickle=True)
            content = buffer.getvalue()
        (folder / self.draw.choice((MANIFEST, PARAMETERS))).write_bytes(content)

    def bomb(self, folder: Path) -> None:
        """Put an archive in the place of a file."""
        (folder / self.draw.choice((MANIFEST, PARAMETERS))).write_bytes(
            self.draw.choice(self.bombs)
        )

    def link(self, folder: Path) -> None:
        """Put a link, a pipe or a folder in the place of a file."""
        path = folder / self.draw.choice((*FILES, SIGNATURE))
        path.unlink()
        kind = self.draw.randrange(6)
        if kind == 0:
            os.mkfifo(path)
        elif kind == 1:
            path.mkdir()
        else:
            path.symlink_to(
                [Path("/etc/passwd"), Path("/dev/zero"), path, self.good / path.name][kind - 2]
            )

    def header(self, folder: Path) -> None:
        """Let the header of the parameters claim what cannot be."""
        f32 = '"dtype":"F32"'
        name = self.draw.choice(["balanced/own_weight", "../../x", "__class__", "a" * 5000, ""])
        shape = self.draw.choice(["[1099511627776,1048576]", "[-1]", "[4294967296,4294967297]",
                                  "[0]", "[1]", "[[1]]", '"1"', "null", "[1e3]"])  # fmt: skip
        ends = self.draw.choice(["[0,4]", "[4,0]", "[4096,4100]", "[0,18446744073709551615]",
                                 "[-4,0]", "[0]", "null"])  # fmt: skip
        entry = f'"{name}":{{{f32},"shape":{shape},"data_offsets":{ends}}}'
        text = self.draw.choice([
            f"{{{entry}}}", f"{{{entry},{entry}}}", "[" * 50_000, '{"a":' * 50_000, "{}", "[]",
            f'{{"__metadata__":{{"format":"pt"}},{entry}}}', "{" + " " * 100_000 + "}",
        ]).encode()  # fmt: skip
        length = self.draw.choice([len(text), len(text), len(text), 0, 1 << 40, (1 << 64) - 1])
        (folder / PARAMETERS).write_bytes(length.to_bytes(8, "little") + text + b"1234")

    def manifest(self, folder: Path) -> None:
        """Change a node or two of the manifest, to words that other loaders obey."""
        record = json.loads((folder / MANIFEST).read_text())
        for _ in range(self.draw.choice([1, 1, 2])):
            nodes = list(leaves(record))
            node, key = self.draw.choice(nodes)
            target = {"_target_": "os.makedirs", "name": str(self.canary / "target")}
            node[key] = self.draw.choice([
                target, [target], "${oc.env:HOME}", "!!python/object/apply:os.system [x]",
                "../../etc/passwd", "/etc/passwd", "__import__('os')", "\u202e", "", None, -1, 0,
                True, 10**12, 1e308, 5e-324, 2**53, [], {}, [[]], "a" * 10_000,
            ])  # fmt: skip
        (folder / MANIFEST).write_text(json.dumps(record))

    def downgrade(self, folder: Path) -> None:
        """Say that it is of another format, or made by another program."""
        record = json.loads((folder / MANIFEST).read_text())
        record["format_version"] = self.draw.choice([0, -1, 2, 99, "1", 1.0, None, True])
        (folder / MANIFEST).write_text(json.dumps(record))

    def exchange(self, folder: Path) -> None:
        """Put files of another artefact in their place: one that was good before, or all of it."""
        names = list((*FILES, SIGNATURE))
        for name in self.draw.sample(names, self.draw.choice([1, 2, 3, 4])):
            shutil.copyfile(self.older / name, folder / name)

    def hide(self, folder: Path) -> None:
        """Put code beside the files, where careless programs look for it."""
        makes = f"import os; os.makedirs({str(self.canary / 'code')!r}, exist_ok=True)\n"
        for name in ("__init__.py", "conftest.py", "sitecustomize.py", "manifest.py", "x.pth"):
            (folder / name).write_text(makes)
        (folder / "model.pkl").write_bytes(pickle.dumps(Trap(self.canary)))
        self.draw.choice([self.flip, self.cut, self.pickled])(folder)

    def nonsense(self, folder: Path) -> None:
        """Keep the form and fill the parameters with any bits, among them no numbers."""
        tensors = read_tensors((folder / PARAMETERS).read_bytes())
        names = sorted(tensors)
        for name in self.draw.sample(names, self.draw.choice([1, 1, len(names)])):
            old = tensors[name]
            kind, size = self.draw.randrange(5), old.numel()
            if kind == 0:
                bits = np.frombuffer(self.draw.randbytes(4 * size), dtype=np.float32).copy()
                new = torch.from_numpy(bits).reshape(old.shape).to(old.dtype)
            elif kind == 1:
                fill = self.draw.choice([float("nan"), float("inf"), -float("inf"), 3.4e38, -0.0])
                new = torch.full_like(old, fill)
            elif kind == 2:
                new = old.flatten()[torch.randperm(size)].reshape(old.shape)
            elif kind == 3:
                new = old * self.draw.choice([1e30, -1e30, 1e-40, 0.0])
            else:
                new = torch.cat([old.flatten(), old.flatten()])
            tensors[name] = new
        (folder / PARAMETERS).write_bytes(tensor_bytes(tensors))

    def reorder(self, folder: Path) -> None:
        """Name the universe in another order, or name other things."""
        record = json.loads((folder / MANIFEST).read_text())
        names = record["universe"]
        record["universe"] = self.draw.choice([
            names[::-1], self.draw.sample(names, len(names)), names[:-1], [*names, "OTHER"],
            [*names[:-1], names[0]],
        ])  # fmt: skip
        (folder / MANIFEST).write_text(json.dumps(record))

    @property
    def kinds(self) -> list[Callable[[Path], None]]:
        return [
            self.flip, self.cut, self.lose, self.pickled, self.bomb, self.link, self.header,
            self.manifest, self.downgrade, self.exchange, self.hide, self.nonsense, self.reorder,
        ]  # fmt: skip


def leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Return every node of a JSON value with the key under which it stands."""
    for key, one in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(one, dict | list):
            yield from leaves(one)


def bombs() -> tuple[bytes, ...]:
    """Return archives of half a gigabyte of nothing, and one whose names lead out."""
    nothing = b"\x00" * (1 << 24)
    zipped, out, tarred = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("archive/data.pkl", "w") as member:
            for _ in range(32):
                member.write(nothing)
        for i in range(200):
            archive.writestr(f"archive/data/{i}", nothing[: 1 << 16])
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../../../../tmp/tercet-escaped", "x")
    with tarfile.open(fileobj=tarred, mode="w:gz") as tar:
        told = tarfile.TarInfo("../../tercet-escaped")
        told.size = len(nothing)
        tar.addfile(told, io.BytesIO(nothing))
    return zipped.getvalue(), out.getvalue(), tarred.getvalue(), gzip.compress(nothing)


def seal(folder: Path, private: Path) -> None:
    """Make hashes and signature right again, as somebody with the key would."""
    if all((folder / name).is_file() and not (folder / name).is_symlink() for name in FILES):
        whole = {name: (folder / name).read_bytes() for name in (MANIFEST, PARAMETERS)}
        (folder / HASHES).write_bytes(hashes_of(whole))
        with suppress(InputError, IsADirectoryError):
            content = signed(identity(folder), private)
            (folder / SIGNATURE).unlink(missing_ok=True)
            (folder / SIGNATURE).write_bytes(content)


@dataclass
class Hall:
    """A registry with a good champion that answers, and the keys of its maker."""

    registry: Registry
    seat: Seat
    good: Path
    other: Path
    private: Path
    public: Path
    folder: Path
    answers: dict[str, Any]

    def answer(self) -> Opinion:
        self.seat.follow()
        return self.seat.opinion(TODAY)

    def require_good(self) -> None:
        """Require the answer of the good one, to its last bit."""
        found = self.answer()
        assert plain(found) == self.answers[found.model["sha256"]]
        champion = self.registry.champion()
        assert champion is not None and found.model["sha256"] == champion.sha256

    def forget_previous(self) -> None:
        """Let the previous one be the good one that is not the champion."""
        champion = self.registry.champion()
        assert champion is not None
        rest = next(one for one in (self.good, self.other) if identity(one) != champion.sha256)
        self.registry.promote(rest, "good", self.public)
        self.registry.rollback("good", self.public)


def plain(opinion: Opinion) -> Any:
    return opinion.weights, opinion.agents, opinion.as_of


@pytest.fixture
def hall(world: Any, tmp_path: Path) -> Hall:
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    make = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(private)]
    subprocess.run(make, check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    private.chmod(0o600)
    folders = []
    for seed in (1, 2):
        folder = tmp_path / f"artefact-{seed}"
        shutil.copytree(world.artefact(seed), folder)
        (folder / SIGNATURE).write_bytes(signed(identity(folder), private))
        folders.append(folder)
    registry = Registry(tmp_path / "registry")
    config = world.config
    dates, train, begin = world.data.bars.dates, world.data.train, world.data.test.start
    last = str(dates[begin + SESSIONS])
    market = replace(
        config.market,
        sessions=begin + SESSIONS + 1,
        train=[str(dates[train.start]), str(dates[train.stop - 1])],
        test=[str(dates[begin]), last],
    )
    now = datetime.fromisoformat(f"{last}T23:30:00+00:00")
    policy = ChampionPolicy(str(registry.folder))
    sources = OwnSources(policy, str(public), market, config.quality)
    seat = Seat(
        ModelRole.champion, sources, world.serving.desk, config.env, market.exchange,
        market.cash_rate, lambda: now,
    )  # fmt: skip
    found = Hall(registry, seat, folders[0], folders[1], private, public, tmp_path, {})
    for folder in (folders[1], folders[0]):  # the other one becomes the previous one
        entry = registry.promote(folder, "good", public)
        found.answers[entry.sha256] = plain(found.answer())
    return found


@pytest.mark.timeout(3600)
def test_no_hostile_artefact_runs_or_takes_the_place_of_the_good_one(
    hall: Hall, soak: bool
) -> None:
    offers, started = SOAK_OFFERS if soak else OFFERS, time.perf_counter()
    canary = hall.folder / "canary"
    canary.mkdir()
    draw = Random(SEED)
    torch.manual_seed(SEED)
    maker = Maker(hall.good, hall.other, canary, draw, bombs())
    outcomes: Counter[str] = Counter()
    slowest, number = 0.0, 0
    while number < offers:
        turn = number // (2 * len(maker.kinds))
        for kind in maker.kinds:
            for sealed in (False, True):
                begun = time.perf_counter()
                hostile = hall.folder / "hostile"
                shutil.copytree(hall.good if draw.random() < 0.5 else hall.other, hostile)
                kind(hostile)
                if sealed:
                    seal(hostile, hall.private)
                with watched():
                    door = (offer, swap)[(number + turn) % 2]
                    outcomes[f"{door.__name__}: {door(hall, hostile, sealed)}"] += 1
                assert WATCH.heard == [], (kind.__name__, sealed, WATCH.heard)
                assert list(canary.iterdir()) == [], (kind.__name__, sealed)
                shutil.rmtree(hostile)
                slowest = max(slowest, time.perf_counter() - begun)
                number += 1
    with watched():
        hall.require_good()
    print(
        f"hostile artefacts: {number} of {len(maker.kinds)} kinds, seed {SEED}, "
        f"{time.perf_counter() - started:.0f} s; {dict(outcomes)}; slowest {slowest:.1f} s; "
        "0 code executions"
    )
    assert number >= offers and slowest < SLOWEST_S
    assert not list(Path("/tmp").glob("tercet-escaped*"))
    let_in = sum(count for said, count in outcomes.items() if "refused" not in said)
    assert let_in < number / 2, "most of them are not hostile"


def offer(hall: Hall, hostile: Path, sealed: bool) -> str:
    """Promote it as a person would; if it is let in at all it answers sanely, and goes again.

    Without its maker's signature nothing is let in but what was good before.
    """
    before = hall.registry.state()
    try:
        entry = hall.registry.promote(hostile, "offered", hall.public)
    except InputError as error:
        assert str(error).isprintable() and len(str(error)) < 1000
        assert hall.registry.state() == before
        hall.require_good()
        return "refused"
    assert sealed or entry.sha256 in hall.answers
    said = "let in"
    try:
        require_sane(hall.answer())
    except NotAnswered:
        said = "let in, gives no answer"
    hall.registry.rollback("taken back", hall.public)
    hall.require_good()
    hall.forget_previous()
    return said


def swap(hall: Hall, hostile: Path, sealed: bool) -> str:
    """Put it in the place of the previous one in the registry, and bring that one back."""
    champion, previous = hall.registry.champion(), hall.registry.previous()
    assert champion is not None and previous is not None
    place, kept = previous.folder, hall.folder / "kept"
    place.rename(kept)
    shutil.copytree(hostile, place, symlinks=True, copy_function=copy_plain)
    hall.seat._sources._contents.clear()  # type: ignore[attr-defined]  # as after a restart
    try:
        try:
            hall.registry.rollback("put there", hall.public)
        except InputError:
            assert hall.registry.champion() == champion
            hall.require_good()
            said = "refused by the registry"
        else:
            assert identity(place) == previous.sha256, sealed  # what was changed is not read
            hall.require_good()
            hall.registry.rollback("back", hall.public)
            said = "unchanged where it is read"
        hall.registry._log.append("promote", "forced", crowned_by(previous.sha256))
        hall.seat.follow()
        assert hall.seat.status()["sha256"] in (champion.sha256, previous.sha256)
        with suppress(NotAnswered):
            assert plain(hall.seat.opinion(TODAY)) == hall.answers[previous.sha256]
    finally:
        shutil.rmtree(place)
        kept.rename(place)
    hall.require_good()  # the file is whole again: the wanted one answers
    hall.registry.rollback("back", hall.public)
    hall.require_good()
    return said


def crowned_by(sha256: str) -> Any:
    """Return the change that names a champion, as somebody who can write the registry would."""
    from agents.roles import crowned

    return lambda roles: crowned(roles, sha256)


def copy_plain(source: str, target: str) -> None:
    """Copy a file; a pipe or a device is made anew, for nobody would ever have read it."""
    if Path(source).is_fifo():
        os.mkfifo(target)
    else:
        shutil.copyfile(source, target, follow_symlinks=False)


def require_sane(opinion: Opinion) -> None:
    """Require weights that an account can hold: numbers, of names, that sum to one."""
    weights = opinion.weights
    assert CASH in weights and all(isinstance(name, str) for name in weights)
    assert all(isfinite(weight) and -1e-9 <= weight <= 1 + 1e-9 for weight in weights.values())
    assert abs(sum(weights.values()) - 1.0) < 1e-6


def test_the_watch_hears_what_it_listens_for(tmp_path: Path) -> None:
    """Guard the test above: every payload is one that would be seen."""
    trap = pickle.dumps(Trap(tmp_path))
    with watched():
        pickle.loads(trap)
        exec("pass")
        subprocess.run(["true"], check=True)
    heard = {one.split(" ")[0] for one in WATCH.heard}
    assert {"pickle.find_class", "exec", "subprocess.Popen"} <= heard
    assert (tmp_path / "pickle").exists()
