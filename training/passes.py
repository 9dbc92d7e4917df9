"""A pass over the stages: the inner one judges each of them, the final one trains what is kept."""

from collections.abc import Mapping, Sequence

from agents.manifest import Stage
from agents.networks import PolicyNetwork
from market.dataset import Dataset
from training.configuration import Configuration
from training.selection import Decision, decide, validate_together
from training.settings import NoAlgorithm, NoPretrain, RankerSettings, RLSettings
from training.society import Society
from training.stages import Stages

RULE, WARM_START, RL = (stage.name for stage in Stage)

Trained = Mapping[str, PolicyNetwork]


def inner_pass(
    data: Dataset,
    society: Society,
    stages: Stages,
    windows: tuple[slice, slice],
    config: Configuration,
) -> list[dict[str, Decision]]:
    """Train each stage on the inner rows and judge it on the rows after them.

    Returns:
        The decisions by policy, one entry per trained stage, in their order.
    """
    inner, rows = windows
    kept: dict[str, PolicyNetwork | None] = dict.fromkeys(society.policies)
    names = dict.fromkeys(society.policies, RULE)
    decisions: list[dict[str, Decision]] = []
    for stage in _planned(config):
        candidate = _train(stage, stages, "inner", inner, kept)
        books, judged = validate_together(data.bars, society, rows, [kept, candidate])
        threshold = _threshold(stage, config)
        decided = decide(society, rows, stage, judged, books, names, threshold)
        decisions.append(decided)
        for policy in society.policies:
            if decided[policy].kept:
                kept[policy], names[policy] = candidate[policy], stage
    return decisions


def train_stages(
    stages: Stages, part: str, rows: slice, decisions: Sequence[Mapping[str, Decision]]
) -> dict[str, Trained]:
    """Train every stage on the rows, each from the stages before it that were kept."""
    trained: dict[str, Trained] = {}
    kept: dict[str, PolicyNetwork | None] = dict.fromkeys(stages.untrained())
    for decided in decisions:
        stage = next(iter(decided.values())).stage
        trained[stage] = _train(stage, stages, part, rows, kept)
        kept |= {policy: trained[stage][policy] for policy in decided if decided[policy].kept}
    return trained


def _planned(config: Configuration) -> list[str]:
    """Return the stages that are trained, in their order."""
    absent = {
        WARM_START: isinstance(config.pretrain, NoPretrain),
        RL: isinstance(config.algorithm, NoAlgorithm),
    }
    return [stage for stage in (WARM_START, RL) if not absent[stage]]


def _train(
    stage: str, stages: Stages, part: str, rows: slice, kept: Mapping[str, PolicyNetwork | None]
) -> Trained:
    """Train one stage; reinforcement learning goes on from what was kept."""
    if stage == WARM_START:
        networks = stages.warm_start(part, rows)
    else:
        untrained = stages.untrained()
        start = {policy: kept[policy] or untrained[policy] for policy in untrained}
        networks = stages.reinforce(part, rows, start)
    assert networks is not None, "only planned stages are trained"
    return networks


def _threshold(stage: str, config: Configuration) -> float:
    settings = config.pretrain if stage == WARM_START else config.algorithm
    assert isinstance(settings, RankerSettings | RLSettings)
    return settings.keep_if
