"""`tercet train`: from a configuration to judged, exported policies."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from agents import artefact
from agents.ensemble import Mixer
from agents.mandates import Mandate
from agents.mandates import society as mandates_of
from agents.manifest import HASHES, Manifest
from agents.manifest import Stage as StageName
from agents.market_tensors import MarketTensors
from agents.network_spec import NetworkConfig, NetworkSpec
from agents.networks import PolicyNetwork
from agents.observation import BOOK_ASSET_FEATURES, BOOK_FEATURES
from envs.batch import EnvSettings
from envs.costs import require_traded_value
from evaluation import summary as summaries
from evaluation.backtest import BacktestWindow
from evaluation.contest import Contest, run_contest
from evaluation.run_folder import SUMMARY, open_run, publish, write_results
from evaluation.study import all_baselines
from evaluation.summary import RunFacts, Stage
from market.build import build
from market.dataset import Dataset
from market.errors import InputError
from market.features import FeatureConfig
from market.load import MarketConfig
from market.quality import QualityRules
from training.checkpoint import Checkpoint, check_config, write_config
from training.config import (
    NoAlgorithm,
    NoPretrain,
    NoTracking,
    RankerSettings,
    RLSettings,
    SelectionSettings,
    WandbSettings,
)
from training.local_ray import local_ray
from training.progress import Narrator
from training.selection import Decision, Networks, decide, inner_windows, validate
from training.society import Society
from training.stages import Stages
from training.tracking import Tracker, tracking

ARTEFACT = "artefact"
STAGES = "stages"
RULE, WARM_START, RL = (stage.name for stage in StageName)

Trained = Mapping[str, PolicyNetwork]


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that a run is configured with; see the configuration groups of these names."""

    market: MarketConfig
    quality: QualityRules
    features: FeatureConfig
    agents: Mapping[str, Mandate]
    env: EnvSettings
    network: NetworkConfig
    pretrain: RankerSettings | NoPretrain
    algorithm: RLSettings | NoAlgorithm
    selection: SelectionSettings
    ensemble: Mixer
    tracking: NoTracking | WandbSettings
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return all values as JSON types, with the name of each choice."""
        record: dict[str, Any] = json.loads(json.dumps(asdict(self), default=_enum_name))
        for group in ("market", "pretrain", "algorithm", "ensemble", "tracking"):
            record[group]["kind"] = type(getattr(self, group)).__name__
        return record


def run(
    config: Configuration, out: str | None, resume: str | None, command: str
) -> tuple[Path, dict[str, Any]]:
    """Train the society, keep what inner validation says helps, and judge it out of sample.

    Args:
        config: of the run.
        out: folder; None is a new one under `runs/`.
        resume: folder of an interrupted run of the same configuration; None begins a new one.
        command: as it was typed.

    Returns:
        The folder and the content of its `summary.json`.

    Raises:
        InputError: if the data, the configuration or the folder cannot be used.
    """
    # Small operations gain nothing from a second thread, and lose a hundredfold beside a busy one.
    torch.set_num_threads(1)
    seconds: dict[str, float] = {}
    with _timed(seconds, "market"):
        data = build(config.market, config.quality, config.features)
        society = make_society(data, config)
        windows = inner_windows(data.train, config.selection)
    folder = _open(config, out, resume)
    checkpoint = Checkpoint(folder, society.network)
    with (
        Narrator() as narrator,
        tracking(config.tracking, folder, config.to_json()) as tracker,
        _ray_for(config.algorithm),
    ):
        stages = Stages(
            society, config.pretrain, config.algorithm, config.seed, checkpoint, narrator, tracker
        )
        with _timed(seconds, "inner_pass"):
            decisions = inner_pass(data, society, stages, windows, config)
            _tell(decisions, narrator, tracker)
        with _timed(seconds, "final_pass"):
            trained = train_stages(stages, "final", data.train, decisions)
        with _timed(seconds, "backtest"):
            narrator.say("backtest out of sample ...")
            chosen = _export(folder, data, society, trained, decisions, config)
            contest, books = backtest(folder, data, society, trained, chosen, decisions, config)
        summary = summaries.build(_facts(folder, config, command, seconds), data, contest, books)
        write_results(folder, summary, contest)
        tracker.finish(_final_numbers(summary, folder))
    checkpoint.discard()
    publish(folder)
    return folder, summary


def make_society(data: Dataset, config: Configuration) -> Society:
    """Return the agents of a configuration over a market."""
    spec = NetworkSpec(
        asset_features=data.asset_features.shape[-1],
        market_features=data.market_features.shape[-1],
        book_asset=BOOK_ASSET_FEATURES,
        book=BOOK_FEATURES,
        **asdict(config.network),
    )
    require_traded_value(config.env.costs, data)
    mandates = mandates_of(config.agents)
    tensors = MarketTensors.build(data)
    return Society(tensors, mandates, config.env, config.market.cash_rate, spec)


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
    books = validate(data.bars, society, rows, kept)
    for stage in _planned(config):
        candidate = _train(stage, stages, "inner", inner, kept)
        judged = validate(data.bars, society, rows, candidate)
        threshold = _threshold(stage, config)
        decided = decide(society, rows, stage, judged, books, names, threshold)
        decisions.append(decided)
        for policy in society.policies:
            if decided[policy].kept:
                kept[policy], names[policy] = candidate[policy], stage
        books = validate(data.bars, society, rows, kept)
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


def backtest(
    folder: Path,
    data: Dataset,
    society: Society,
    trained: Mapping[str, Trained],
    chosen: Mapping[str, str],
    decisions: Sequence[Mapping[str, Decision]],
    config: Configuration,
) -> tuple[Contest, dict[str, list[Stage]]]:
    """Run the exported policies beside the baselines, and every stage of every agent."""
    exported = artefact.load(folder / ARTEFACT).networks
    window = BacktestWindow(data.test, society.settings, society.cash_rate)
    contest = run_contest(
        data,
        society.market,
        window,
        society.mandates,
        {policy: exported.get(policy) for policy in society.policies},
        config.ensemble,
        all_baselines(data, society.mandates),
    )
    rule: Networks = dict.fromkeys(society.policies)
    results = {
        stage: validate(data.bars, society, data.test, networks)
        for stage, networks in {RULE: rule, **trained}.items()
    }
    why = {decided[p].stage: decided for decided in decisions for p in decided}
    books = {
        mandate.name: [
            Stage(
                name=stage,
                book=result.books[mandate.name][0],
                chosen=chosen[mandate.policy] == stage,
                decision=str(why[stage][mandate.policy]) if stage in why else "the mandate itself",
            )
            for stage, result in results.items()
        ]
        for mandate in society.mandates
    }
    return contest, books


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


def _export(
    folder: Path,
    data: Dataset,
    society: Society,
    trained: Mapping[str, Trained],
    decisions: Sequence[Mapping[str, Decision]],
    config: Configuration,
) -> dict[str, str]:
    """Write the artefact of the chosen stages, and one of each stage; return what was chosen."""
    chosen = dict.fromkeys(society.policies, RULE)
    for decided in decisions:
        chosen |= {policy: one.stage for policy, one in decided.items() if one.kept}
    whole = {stage: dict.fromkeys(society.policies, stage) for stage in (RULE, *trained)}
    places = {folder / STAGES / stage: by_policy for stage, by_policy in whole.items()}
    for place, by_policy in {**places, folder / ARTEFACT: chosen}.items():
        if place.exists():  # a resumed run that was interrupted after the export
            continue
        networks = {p: trained[stage][p] for p, stage in by_policy.items() if stage != RULE}
        artefact.save(place, networks, _manifest(data, society, by_policy, decisions, config))
    return chosen


def _manifest(
    data: Dataset,
    society: Society,
    by_policy: Mapping[str, str],
    decisions: Sequence[Mapping[str, Decision]],
    config: Configuration,
) -> Manifest:
    numbers = {
        key: value if math.isfinite(value) else None
        for decided in decisions
        for policy, one in decided.items()
        for key, value in _validation_numbers(policy, one).items()
    }
    return Manifest(
        mandates=society.mandates,
        stages={m.name: StageName[by_policy[m.policy]] for m in society.mandates},
        network=society.network,
        features=data.features,
        ensemble=config.ensemble,
        universe=data.bars.symbols,
        data_sha256=data.bars.sha256,
        code_version=summaries.commit(),
        assumed_adv=config.market.assumed_adv,
        metrics=numbers,
        trials=1,
    )


def _open(config: Configuration, out: str | None, resume: str | None) -> Path:
    """Return the folder of a new run, or that of the interrupted one."""
    if resume is None:
        folder = open_run(out, "train", config.seed)
        write_config(folder, config.to_json())
        return folder
    folder = Path(resume)
    check_config(folder, config.to_json())
    if (folder / SUMMARY).exists():
        raise InputError(f"resume={folder} is a complete run")
    return folder


def _ray_for(algorithm: RLSettings | NoAlgorithm) -> AbstractContextManager[None]:
    if isinstance(algorithm, NoAlgorithm):
        return nullcontext()
    return local_ray()


def _tell(
    decisions: Sequence[Mapping[str, Decision]], narrator: Narrator, tracker: Tracker
) -> None:
    for decided in decisions:
        for policy, one in decided.items():
            narrator.say(f"{policy}, {one.stage} {one}")
            tracker.log(_validation_numbers(policy, one))


def _validation_numbers(policy: str, one: Decision) -> dict[str, float]:
    key = f"validation/{policy}/{one.stage}"
    return {f"{key}/excess": one.excess, f"{key}/standard_error": one.standard_error}


def _facts(
    folder: Path, config: Configuration, command: str, seconds: Mapping[str, float]
) -> RunFacts:
    return RunFacts(
        run_id=folder.name,
        command=command,
        seed=config.seed,
        seconds=seconds,
        artefact=str(folder / ARTEFACT),
        assumed_adv=config.market.assumed_adv,
        costs=config.env.costs,
        trials=1,
    )


def _final_numbers(summary: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return what a tracker keeps of the summary: each book's measures and the artefact's hash."""
    books = {**summary["agents"], "ensemble": summary["ensemble"]}
    hashes = json.loads((folder / ARTEFACT / HASHES).read_text())
    measures = {
        f"test/{book}/{name}": value for book, row in books.items() for name, value in row.items()
    }
    return {**measures, "artefact_sha256": hashes["files"]}


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[phase] = time.perf_counter() - started


def _enum_name(value: object) -> str:
    if isinstance(value, Enum):
        return value.name
    raise TypeError(f"{value!r} is no JSON type")
