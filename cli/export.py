"""`tercet export`: write each policy of an artefact as ONNX, checked against torch on real days."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from agents import artefact
from agents.action_map import ActionMap
from agents.artefact import Artefact
from agents.market_tensors import MarketTensors
from agents.observation import Blocks
from agents.policies import ArtefactPolicy, ChampionPolicy
from agents.registry import artefact_of
from agents.whole_files import write_folder
from benchmarks.measure import show
from cli.config import ExportConfig
from cli.verbs import verb
from envs.costs import require_traded_value
from evaluation.run_folder import open_run, room_in
from market.build import build
from market.errors import InputError
from serving.observed import observed
from serving.track import replay

EXTRA = ("onnx", "onnxruntime", "onnxscript")
SESSIONS = 256  # of the test window, spread evenly, that an export is checked on


@verb(ExportConfig)
def main(config: ExportConfig) -> None:
    """Export, check, write whole or not at all, and say how long either takes to act."""
    _require_extra()
    from agents.onnx_export import export  # they need the extra
    from benchmarks import onnx_beside_torch

    torch.set_num_threads(1)  # a network of a few thousand parameters has no work for a second
    trained = artefact.load(_folder_of(config))
    if not trained.networks:
        raise InputError(
            f"{trained.folder}: all agents are played by their rule, nothing to export"
        )
    folder = open_run(config.out, "export")
    seen = _seen(config, trained)
    exported = export(trained, seen)
    with room_in(folder):
        write_folder(folder, {f"{policy}.onnx": one.model for policy, one in exported.items()})
    print(*(folder / f"{policy}.onnx" for policy in exported), "", sep="\n")
    show(onnx_beside_torch.run(trained, exported, seen))


def _require_extra() -> None:
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise InputError(f"tercet export needs {missing[0]}: pip install 'tercet[onnx]'")


def _folder_of(config: ExportConfig) -> Path:
    if config.path is not None:
        return Path(config.path)
    if not isinstance(config.policy, ArtefactPolicy | ChampionPolicy):
        raise InputError("only trained policies are exported: path=<artefact> or policy=champion")
    return artefact_of(config.policy)


def _seen(config: ExportConfig, trained: Artefact) -> dict[str, Blocks]:
    """Return what the agents of each policy saw in the test window, replayed."""
    data = build(config.market, config.quality, trained.manifest.features)
    require_traded_value(config.env.costs, data)
    market, mandates = MarketTensors.build(data), trained.manifest.mandates
    track = replay(
        market, mandates, trained.networks, config.env, data.test.start, config.market.cash_rate
    )
    chosen = np.unique(np.linspace(0, len(track.nav) - 1, SESSIONS).astype(np.int64))
    return observed(track, ActionMap(mandates, market), chosen.tolist())
