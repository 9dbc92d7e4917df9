"""An artefact of agents that learned nothing: what an answer costs does not depend on its worth."""

from pathlib import Path

import torch

from agents import artefact
from agents.manifest import Manifest, Stage
from market.code_version import commit
from market.dataset import Dataset
from training.configuration import Configuration
from training.seeds import generator_of
from training.society import Society

SPREAD = 0.2  # of the noise on every parameter: enough that agents disagree and days differ


def save(folder: Path, society: Society, data: Dataset, config: Configuration) -> None:
    """Write an artefact whose networks have random parameters.

    Args:
        folder: must not exist yet.
        society: mandates and shape of the networks.
        data: of their market.
        config: how capital is shared, and the seed: equal seeds give equal artefacts.
    """
    networks = society.new_networks(config.seed)
    generator = generator_of(config.seed, "untrained")
    with torch.no_grad():
        for network in networks.values():
            for parameter in network.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise, alpha=SPREAD)
    manifest = Manifest(
        mandates=society.mandates,
        stages={mandate.name: Stage.rl for mandate in society.mandates},
        network=society.network,
        features=data.features,
        ensemble=config.ensemble,
        universe=data.bars.symbols,
        data_sha256=data.bars.sha256,
        code_version=commit(),
        assumed_adv=config.market.assumed_adv,
        metrics={},
        trials=1,
    )
    artefact.save(folder, networks, manifest)
