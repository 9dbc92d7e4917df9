"""`tercet train`: from a configuration to judged, exported policies."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents import artefact
from agents.ensemble import require_shares
from agents.mandates import society as mandates_of
from agents.market_tensors import MarketTensors
from agents.network_spec import NetworkSpec
from agents.observation import BOOK_ASSET_FEATURES, BOOK_FEATURES
from envs.costs import require_traded_value
from evaluation.backtest import BacktestWindow
from evaluation.contest import Contest, run_contest
from evaluation.run_folder import claimed, publish, record_opening, write_results
from evaluation.study import all_baselines
from evaluation.summary import Opening, RunFacts, Stage
from evaluation.summary import build as build_summary
from evaluation.trial_ledger import State, TrialLedger, Tried
from market.build import build
from market.dataset import Dataset
from market.errors import InputError
from training import placement
from training.checkpoint import Checkpoint
from training.configuration import Configuration
from training.export import ARTEFACT, export, validation_numbers
from training.joined_ray import ray_for
from training.leaving import Leave, leaving_on_signals
from training.passes import RULE, Trained, inner_pass, train_stages
from training.progress import Narrator
from training.resume import folder_for
from training.selection import Decision, Networks, inner_windows
from training.settings import ClusterSettings, NoAlgorithm, RLSettings
from training.society import Society
from training.stages import Stages
from training.store import Store
from training.tracking import Tracker, tracking


def run(
    config: Configuration,
    cluster: ClusterSettings,
    out: str | None,
    resume: str | None,
    command: str,
) -> tuple[Path, dict[str, Any]]:
    """Train the society, keep what inner validation says helps, and judge it out of sample.

    Args:
        config: of the run.
        cluster: where it runs, which may differ after an interruption.
        out: folder; None is a new one under `runs/`.
        resume: folder of an interrupted run of the same configuration, or `auto`; None begins a
            new one.
        command: as it was typed.

    Returns:
        The folder and the content of its `summary.json`.

    Raises:
        InputError: if the data, the configuration or the folder cannot be used, the cluster has no
            room, or a learner is lost.
    """
    seconds: dict[str, float] = {}
    store = None if cluster.checkpoints is None else Store(cluster.checkpoints)
    with _timed(seconds, "market"):
        data = build(config.market, config.quality, config.features)
        society = make_society(data, config)
        _require_device(config.algorithm, cluster)
        windows = inner_windows(data.train, config.selection)
        record = config.record(data.bars.sha256)
    with (
        Narrator() as narrator,
        _ray(config.algorithm, cluster, narrator) as algorithm,
        claimed(folder := folder_for(record, out, resume, store, narrator.say)),
        tracking(config.tracking, folder, config.to_json(), data.bars.sha256) as tracker,
        resumable(folder, narrator),
    ):
        enter(folder, data, config)
        checkpoint = Checkpoint(folder, society.network, store, narrator.say)
        stages = Stages(
            society,
            config.pretrain,
            algorithm,
            cluster,
            config.seed,
            checkpoint,
            narrator,
            tracker,
        )
        with _timed(seconds, "inner_pass"):
            decisions = inner_pass(data, society, stages, windows, config)
            _tell(decisions, narrator, tracker)
        with _timed(seconds, "final_pass"):
            trained = train_stages(stages, "final", data.train, decisions)
        with _timed(seconds, "backtest"):
            narrator.say("backtest out of sample ...")
            trials = TrialLedger(folder.resolve().parent).compared(data.bars.sha256)
            chosen = export(folder, data, society, trained, decisions, config, trials)
            opening = record_opening(folder, data, command)
            contest, books = backtest(folder, data, society, trained, chosen, decisions, config)
        summary = build_summary(
            _facts(folder, config, command, seconds, opening, trials), data, contest, books
        )
        write_results(folder, summary, contest)
        tracker.finish(folder, summary, contest)
        checkpoint.discard()
    publish(folder)
    return folder, summary


def enter(folder: Path, data: Dataset, config: Configuration) -> None:
    """Write the run into the ledger of trials, unless a search has tried its configuration."""
    TrialLedger(folder.resolve().parent).write_once(
        Tried(
            run=folder.resolve().name,
            trial="train",
            configuration=config.identity,
            data=data.bars.sha256,
            seed=config.seed,
            settings={},
            state=State.trained,
        )
    )


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
    require_shares(config.ensemble, len(mandates))
    tensors = MarketTensors.build(data)
    return Society(tensors, mandates, config.env, config.market.cash_rate, spec)


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
    rule: Networks = dict.fromkeys(society.policies)
    contest = run_contest(
        data,
        society.market,
        window,
        society.mandates,
        {policy: exported.get(policy) for policy in society.policies},
        config.ensemble,
        all_baselines(data, society.mandates),
        {RULE: rule, **trained},
    )
    why = {decided[p].stage: decided for decided in decisions for p in decided}
    stages = {
        mandate.name: [
            Stage(
                name=stage,
                book=books[mandate.name],
                chosen=chosen[mandate.policy] == stage,
                decision=str(why[stage][mandate.policy]) if stage in why else "the mandate itself",
            )
            for stage, books in contest.stages.items()
        ]
        for mandate in society.mandates
    }
    return contest, stages


def _require_device(algorithm: RLSettings | NoAlgorithm, cluster: ClusterSettings) -> None:
    """Refuse a device that this machine has not, before anything is built."""
    if isinstance(algorithm, RLSettings) and not (algorithm.num_learners or cluster.join):
        placement.chosen_device(algorithm.device)


@contextmanager
def resumable(folder: Path, narrator: Narrator) -> Iterator[None]:
    """Say how an interrupted run goes on."""
    how = f"to go on, add resume={folder} to the same overrides"
    try:
        with leaving_on_signals():
            yield
    except KeyboardInterrupt:
        narrator.say(f"interrupted; {how}")
        raise
    except Leave as leave:
        narrator.say(f"{leave.reason}; {how}")
        raise
    except placement.ActorsLostError as error:
        raise InputError(f"{error}; {how}") from error


@contextmanager
def _ray(
    algorithm: RLSettings | NoAlgorithm, cluster: ClusterSettings, narrator: Narrator
) -> Iterator[RLSettings | NoAlgorithm]:
    """Join or start Ray where it is needed; yield the settings with as many actors as it gets."""
    if isinstance(algorithm, NoAlgorithm):
        yield algorithm
        return
    with ray_for(cluster, narrator.say) as joined:
        placed = placement.sized(algorithm, joined)
        if joined:
            narrator.say(placement.described(placed))
        placement.require_room(placed, cluster, narrator.say)
        placement.runner_device(placed)  # refused here, not after the warm start
        yield placed


def _tell(
    decisions: Sequence[Mapping[str, Decision]], narrator: Narrator, tracker: Tracker
) -> None:
    for decided in decisions:
        for policy, one in decided.items():
            narrator.say(f"{policy}, {one.stage} {one}")
            tracker.log(validation_numbers(policy, one))


def _facts(
    folder: Path,
    config: Configuration,
    command: str,
    seconds: Mapping[str, float],
    opening: Opening,
    trials: int,
) -> RunFacts:
    return RunFacts(
        run_id=folder.name,
        command=command,
        seed=config.seed,
        seconds=seconds,
        artefact=str(folder / ARTEFACT),
        assumed_adv=config.market.assumed_adv,
        costs=config.env.costs,
        opening=opening,
        trials=trials,
    )


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[phase] = time.perf_counter() - started
