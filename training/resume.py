"""Which folder a run writes to: a new one, or that of an interrupted run which goes on."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluation.run_folder import RUNS, SUMMARY, is_claimed, open_run, room_in
from market.errors import InputError
from training.checkpoint import CONFIG, FOLDER, check_config, items, require_same, write_config
from training.store import Store, StoreError

AUTO = "auto"

Record = Mapping[str, Any]


def folder_for(
    record: Record,
    out: str | None,
    resume: str | None,
    store: Store | None,
    say: Callable[[str], None],
) -> Path:
    """Return the folder of a new run, or that of the interrupted one with all that is left of it.

    Args:
        record: of the configuration and the data of the run.
        out: folder of a new run; None is a new one under `runs/`.
        resume: folder of an interrupted run of the same configuration; `auto` is the newest of
            them, in `out` where that is given, or a new run where there is none; None begins anew.
        store: with copies of checkpoints, of which the folder gets those that it has not; or None.
        say: tells what `auto` has found.

    Raises:
        InputError: if the folder cannot be used, its run was configured otherwise, had other data
            or is whole, or the store does not answer.
    """
    try:
        if resume is None:
            return _begun(record, out, store)
        if resume != AUTO:
            return _gone_on_with(record, Path(resume), store)
        found = _newest(record, store) if out is None else _there(Path(out), store)
        if found is None:
            say("resume=auto: no interrupted run of this configuration is here, a new one begins")
            return _begun(record, out, store)
        say(f"resume=auto: {found} goes on")
        return _gone_on_with(record, found, store)
    except StoreError as error:
        raise InputError(str(error)) from error


def _begun(record: Record, out: str | None, store: Store | None) -> Path:
    folder = open_run(out, "train", record["seed"])
    if store is not None:
        name = folder.resolve().name
        if store.config(name) is not None:
            raise InputError(f"cluster.checkpoints holds a run {name} already: choose another out=")
        store.begin(name, record)
    with room_in(folder):
        write_config(folder, record)
    return folder


def _gone_on_with(record: Record, folder: Path, store: Store | None) -> Path:
    if store is not None:
        _fetch(record, folder, store)
    check_config(folder, record)
    if (folder / SUMMARY).exists():
        raise InputError(f"resume={folder} is a complete run")
    if store is not None:
        _send(record, folder, store)
    return folder


def _fetch(record: Record, folder: Path, store: Store) -> None:
    """Bring what only the store has into the folder."""
    name = folder.resolve().name
    kept = store.config(name)
    if kept is None:
        return
    require_same(folder, kept, record)
    with room_in(folder):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        if not (folder / CONFIG).exists():
            write_config(folder, record)
        here = {item.name for item in items(folder)}
        for item in store.items(name):
            if item not in here:
                store.fetch(name, item, folder / FOLDER)


def _send(record: Record, folder: Path, store: Store) -> None:
    """Bring what only the folder has into the store."""
    name = folder.resolve().name
    if store.config(name) is None:
        store.begin(name, record)
    there = store.items(name)
    for item in items(folder):
        if item.name not in there:
            store.put(name, item)


def _there(folder: Path, store: Store | None) -> Path | None:
    """Return the folder if anything of its run is left, in it or in the store."""
    kept = store is not None and store.config(folder.resolve().name) is not None
    return folder if kept or (folder / CONFIG).exists() else None


def _newest(record: Record, store: Store | None) -> Path | None:
    """Return the folder under `runs/` of the run of this configuration that was stopped last."""
    stopped = {folder: _touched(folder) for folder in RUNS.glob("*") if (folder / CONFIG).exists()}
    for name, touched in _kept(record, store):
        stopped[RUNS / name] = max(touched, stopped.get(RUNS / name, 0.0))
    candidates = [folder for folder in stopped if _may_go_on(record, folder)]
    return max(candidates, key=lambda folder: (stopped[folder], folder.name), default=None)


def _kept(record: Record, store: Store | None) -> Iterator[tuple[str, float]]:
    """Yield the runs of this configuration in the store, with the time of their last item."""
    if store is None:
        return
    for name in store.runs():
        try:
            require_same(RUNS / name, store.config(name) or {}, record)
        except InputError:
            continue
        yield name, store.touched(name)


def _may_go_on(record: Record, folder: Path) -> bool:
    """Return whether nothing ends a run and nobody writes it; one in the store has no folder."""
    if folder.is_symlink() or (folder / SUMMARY).exists() or is_claimed(folder):
        return False
    try:
        check_config(folder, record)
    except InputError:
        return not (folder / CONFIG).exists()
    return True


def _touched(folder: Path) -> float:
    """Return when a run last left something to go on from, in seconds of the epoch."""
    checkpoint = folder / FOLDER
    return (checkpoint if checkpoint.exists() else folder / CONFIG).stat().st_mtime
