"""What an interrupted run leaves behind, and how it goes on.

A finished part of a run is one safetensors file; a part that is still running leaves RLlib's state
of its learners in a folder. Either is written under another name and renamed, so none is ever half
there, and the RL state written before stays until the next one is whole.
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

CONFIG = "config.json"
FOLDER = "checkpoint"
SEPARATOR = "/"


class Checkpoint:
    """The parts of one run that are done, under its folder."""

    def __init__(self, run: Path, spec: NetworkSpec) -> None:
        self.folder = run / FOLDER
        self._spec = spec
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
        unfinished.rename(self.folder / f"{part}.state-{number}")
        if before is not None:
            rmtree(before)

    def discard(self) -> None:
        """Remove everything: the run is whole and has its artefacts."""
        rmtree(self.folder)

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
        recorded = json.loads((run / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"resume={run}: no run to go on with ({error})") from error
    difference = first_difference(recorded, json.loads(json.dumps(config)))
    if difference is not None:
        raise InputError(f"resume={run} was configured otherwise: {difference}")


def _number(state: Path) -> int:
    return int(state.name.rpartition("-")[2])
