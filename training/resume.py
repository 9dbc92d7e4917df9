"""Which folder a run writes to: a new one, or that of an interrupted run which goes on."""

from collections.abc import Callable, Iterator
from pathlib import Path

from evaluation.run_folder import RUNS, SUMMARY, is_claimed, open_run, room_in
from market.errors import InputError
from training.checkpoint import CONFIG, FOLDER, check_config, write_config
from training.configuration import Configuration

AUTO = "auto"


def folder_for(
    config: Configuration, out: str | None, resume: str | None, say: Callable[[str], None]
) -> Path:
    """Return the folder of a new run, or that of the interrupted one.

    Args:
        config: of the run.
        out: folder of a new run; None is a new one under `runs/`.
        resume: folder of an interrupted run of the same configuration; `auto` is the newest of
            them, in `out` where that is given, or a new run where there is none; None begins anew.
        say: tells what `auto` has found.

    Raises:
        InputError: if the folder cannot be used, or its run was configured otherwise or is whole.
    """
    if resume is None:
        return _begun(config, out)
    if resume != AUTO:
        return _gone_on_with(config, Path(resume))
    if out is not None and (Path(out) / CONFIG).exists():
        return _gone_on_with(config, Path(out))
    newest = max(_interrupted(config), key=_last_touched, default=None) if out is None else None
    if newest is None:
        say("resume=auto: no interrupted run of this configuration is here, a new one begins")
        return _begun(config, out)
    say(f"resume=auto: {newest} goes on")
    return newest


def _begun(config: Configuration, out: str | None) -> Path:
    folder = open_run(out, "train", config.seed)
    with room_in(folder):
        write_config(folder, config.to_json())
    return folder


def _gone_on_with(config: Configuration, folder: Path) -> Path:
    check_config(folder, config.to_json())
    if (folder / SUMMARY).exists():
        raise InputError(f"resume={folder} is a complete run")
    return folder


def _interrupted(config: Configuration) -> Iterator[Path]:
    """Yield the runs of this configuration under `runs/` that nothing ends and nobody writes."""
    for folder in RUNS.glob("*"):
        if folder.is_symlink() or not (folder / CONFIG).exists():
            continue
        try:
            _gone_on_with(config, folder)
        except InputError:
            continue
        if not is_claimed(folder):
            yield folder


def _last_touched(folder: Path) -> tuple[int, str]:
    """Return when a run last left something to go on from; the name settles equal times."""
    checkpoint = folder / FOLDER
    latest = checkpoint if checkpoint.exists() else folder / CONFIG
    return latest.stat().st_mtime_ns, folder.name
