"""From trained stages to policy artefacts: the chosen one, and one of each stage."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from agents import artefact
from agents.manifest import Manifest, Stage
from market.code_version import commit
from market.dataset import Dataset
from training.configuration import Configuration
from training.passes import RULE, Trained
from training.selection import Decision
from training.society import Society

ARTEFACT = "artefact"
STAGES = "stages"


def export(
    folder: Path,
    data: Dataset,
    society: Society,
    trained: Mapping[str, Trained],
    decisions: Sequence[Mapping[str, Decision]],
    config: Configuration,
    trials: int,
) -> dict[str, str]:
    """Write the artefact of the chosen stages, and one of each stage; return what was chosen.

    Args:
        folder: of the run.
        data: the market.
        society: who plays whom.
        trained: networks by stage.
        decisions: by policy, one entry per trained stage.
        config: of the run.
        trials: configurations that were tried on this data, this one among them.
    """
    chosen = dict.fromkeys(society.policies, RULE)
    for decided in decisions:
        chosen |= {policy: one.stage for policy, one in decided.items() if one.kept}
    whole = {stage: dict.fromkeys(society.policies, stage) for stage in (RULE, *trained)}
    places = {folder / STAGES / stage: by_policy for stage, by_policy in whole.items()}
    for place, by_policy in {**places, folder / ARTEFACT: chosen}.items():
        if place.exists():  # a resumed run that was interrupted after the export
            continue
        networks = {p: trained[stage][p] for p, stage in by_policy.items() if stage != RULE}
        artefact.save(
            place, networks, _manifest(data, society, by_policy, decisions, config, trials)
        )
    return chosen


def _manifest(
    data: Dataset,
    society: Society,
    by_policy: Mapping[str, str],
    decisions: Sequence[Mapping[str, Decision]],
    config: Configuration,
    trials: int,
) -> Manifest:
    numbers = {
        key: value if math.isfinite(value) else None
        for decided in decisions
        for policy, one in decided.items()
        for key, value in validation_numbers(policy, one).items()
    }
    return Manifest(
        mandates=society.mandates,
        stages={m.name: Stage[by_policy[m.policy]] for m in society.mandates},
        network=society.network,
        features=data.features,
        ensemble=config.ensemble,
        universe=data.bars.symbols,
        data_sha256=data.bars.sha256,
        code_version=commit(),
        assumed_adv=config.market.assumed_adv,
        metrics=numbers,
        trials=trials,
    )


def validation_numbers(policy: str, one: Decision) -> dict[str, float]:
    """Return what is kept and tracked of one decision."""
    key = f"validation/{policy}/{one.stage}"
    return {f"{key}/excess": one.excess, f"{key}/standard_error": one.standard_error}
