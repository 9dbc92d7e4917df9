"""`tercet doctor`: check the installation, the data and the keys of this machine."""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from agents.registry import Registry
from brokers.settings import AlpacaSettings, keys_from_environment, missing_keys
from cli.config import DoctorConfig
from cli.verbs import verb
from market.errors import InputError
from market.load import load_bars

PACKAGES = (
    "ray",
    "torch",
    "fastapi",
    "hydra-core",
    "TA-Lib",
    "skfolio",
    "pandas",
    "numpy",
    "wandb",
)
FREE_BYTES = 2 * 1024**3  # a run with its tracking files and the cache stay far below
MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "fail": "[red]fail[/]"}


class Finding(NamedTuple):
    """The result of one check."""

    status: str  # ok, note or fail
    detail: str


@verb(DoctorConfig)
def main(config: DoctorConfig) -> None:
    """Print a table of checks; exit with 1 where one fails."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "packages": _packages,
        "accelerator": _accelerator,
        "market": lambda: _market(config),
        "run folder": lambda: _folder(Path(config.out)),
        "champion": lambda: _champion(Path(config.registry)),
        "tracking": _tracking,
        "broker keys": lambda: _broker_keys(config.broker),
    }
    table = Table("check", "", "found")
    failed = False
    for name, check in checks.items():
        finding = check()
        failed |= finding.status == "fail"
        table.add_row(name, MARKS[finding.status], finding.detail)
    Console().print(table)
    if failed:
        raise SystemExit(1)


def _python() -> Finding:
    return Finding("ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages() -> Finding:
    return Finding("ok", ", ".join(f"{name} {version(name)}" for name in PACKAGES))


def _accelerator() -> Finding:
    if torch.cuda.is_available():
        return Finding("ok", torch.cuda.get_device_name())
    return Finding("note", f"no CUDA device: {os.cpu_count()} CPU cores do the work")


def _market(config: DoctorConfig) -> Finding:
    try:
        bars = load_bars(config.market, config.quality)
    except InputError as error:
        return Finding("fail", str(error))
    return Finding(
        "ok",
        f"{bars.source}: {len(bars.symbols)} symbols, {bars.dates[0]} to {bars.dates[-1]}, "
        f"{', '.join(bars.fields)}",
    )


def _champion(folder: Path) -> Finding:
    """Check that what is to be served can be read; before the first promotion nothing is."""
    try:
        champion = Registry(folder).champion()
        if champion is None:
            return Finding("note", f"none in {folder}: tercet promote path=<artefact> reason=<why>")
        champion.contents()
    except InputError as error:
        return Finding("fail", str(error))
    return Finding("ok", f"{champion.sha256[:12]}, {', '.join(champion.agents)}")


def _folder(folder: Path) -> Finding:
    """Check that runs can be written: the nearest existing parent counts before the first run."""
    existing = next(
        parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.exists()
    )
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding("fail", f"{existing} cannot be written: {error.strerror}")
    free = shutil.disk_usage(existing).free
    status = "ok" if free > FREE_BYTES else "fail"
    return Finding(status, f"{folder.resolve()}, {free / 1024**3:.1f} GiB free")


def _tracking() -> Finding:
    if os.environ.get("WANDB_API_KEY"):
        return Finding("ok", "W&B online: WANDB_API_KEY is set")
    return Finding("note", "W&B offline: no WANDB_API_KEY, runs are kept in their folder")


def _broker_keys(settings: AlpacaSettings) -> Finding:
    """Say whether orders could be sent; the keys themselves are never shown."""
    if missing := missing_keys(settings):
        return Finding("note", f"not set: {', '.join(missing)}")
    try:
        keys_from_environment(settings)
    except InputError as error:
        return Finding("fail", str(error))
    return Finding("ok", f"set, for {settings.trading_url}")
