"""What an interrupted run leaves behind, and how it goes on.

A finished part of a run is one safetensors file; a part that is still running leaves RLlib's state
of its learners in a folder. Either is written under another name and renamed, so none is ever half
there, and the RL state written before stays until the next one is whole. Copies of both may go to a
store as well, from which the run goes on where this disk is lost.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch
from safetensors.torch import load_file, save

from agents.manifest import first_difference
from agents.network_spec import NetworkSpec
from agents.networks import PolicyNetwork
from market.errors import InputError
from training.store import Store, StoreError

CONFIG = "config.json"
FOLDER = "checkpoint"
SEPARATOR = "/"


class Checkpoint:
    """The parts of one run that are done, under its folder.

    Args:
        run: folder of the run.
        spec: of its networks.
        store: that gets a copy of everything, under the name of the folder; None: nothing does.
        say: tells what the store could not take; training goes on with what is on this disk.
    """

    def __init__(
        self, run: Path, spec: NetworkSpec, store: Store | None, say: Callable[[str], None]
    ) -> None:
        self.folder = run / FOLDER
        self._spec, self._name = spec, run.resolve().name
        self._store, self._say = store, say
        self.folder.mkdir(parents=True, exist_ok=True)

    def networks(
        self, part: str, train: Callable[[], Mapping[str, PolicyNetwork]]
    ) -> dict[str, PolicyNetwork]:
        """Return the networks of a part of the run, trained only where they are not there yet."""
        path = self.folder / f"{part}.safetensors"
        if path.exists():
            return self._read(path)
        networks = dict(train())
        tensors = {
            policy + SEPARATOR + name: value.contiguous()
            for policy, network in networks.items()
            for name, value in network.state_dict().items()
        }
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(save(tensors))
        unfinished.replace(path)
        last = self.running(part)
        self._copy(path, last)
        if last is not None:
            rmtree(last)
        return networks

    def running(self, part: str) -> Path | None:
        """Return the folder with the last state of a part that was interrupted, if any."""
        states = sorted(self.folder.glob(f"{part}.state-*"), key=_number)
        return states[-1] if states else None

    def save_running(self, part: str, save: Callable[[Path], None]) -> None:
        """Keep the state of a running part, and drop the one before."""
        before = self.running(part)
        number = 0 if before is None else _number(before) + 1
        unfinished = self.folder / f".{part}.{os.getpid()}"
        rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        save(unfinished)
        whole = unfinished.rename(self.folder / f"{part}.state-{number}")
        self._copy(whole, before)
        if before is not None:
            rmtree(before)

    def discard(self) -> None:
        """Remove everything: the run is whole and has its artefacts."""
        rmtree(self.folder)
        if self._store is None:
            return
        try:
            self._store.discard(self._name)
        except StoreError as error:
            self._say(f"{error}; the copies of {self._name} there are of no use any more")

    def _copy(self, item: Path, outdated: Path | None) -> None:
        """Send an item to the store; only then may the one that it replaces go from there."""
        if self._store is None:
            return
        try:
            self._store.put(self._name, item)
            if outdated is not None:
                self._store.drop(self._name, outdated.name)
        except StoreError as error:
            self._say(f"{error}; what is on this disk stands")

    def _read(self, path: Path) -> dict[str, PolicyNetwork]:
        tensors = load_file(path)
        networks = {}
        for policy in dict.fromkeys(name.split(SEPARATOR)[0] for name in tensors):
            network = PolicyNetwork(self._spec, torch.Generator())
            start = policy + SEPARATOR
            network.load_state_dict(
                {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
            )
            networks[policy] = network
        return networks


def write_config(run: Path, config: Mapping[str, Any]) -> None:
    """Write what the run was configured with."""
    (run / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def check_config(run: Path, config: Mapping[str, Any]) -> None:
    """Refuse to go on with a run that was configured otherwise.

    Raises:
        InputError: if the folder holds no interrupted run, or a value differs; names it.
    """
    try:
        recorded = dict(json.loads((run / CONFIG).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"resume={run}: no run to go on with ({error})") from error
    require_same(run, recorded, config)


def require_same(run: Path, recorded: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse a configuration that differs from the recorded one; it may be tracked elsewhere.

    Raises:
        InputError: names the first value that differs.
    """
    wanted = {**json.loads(json.dumps(config)), "tracking": recorded.get("tracking")}
    difference = first_difference(recorded, wanted)
    if difference is not None:
        raise InputError(f"resume={run} was configured otherwise: {difference}")


def items(run: Path) -> list[Path]:
    """Return what is whole of a run's checkpoint: finished parts and states of running ones."""
    folder = run / FOLDER
    return sorted([*folder.glob("*.safetensors"), *folder.glob("*.state-*")])


def _number(state: Path) -> int:
    return int(state.name.rpartition("-")[2])
