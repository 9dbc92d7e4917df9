"""`tercet backtest`: one policy over the test window, beside the baselines."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents import artefact, baselines
from agents.baselines import Schedule
from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.policies import ArtefactPolicy, BaselinePolicy, ChampionPolicy, FixedPolicy
from agents.registry import artefact_of
from envs.batch import EnvSettings
from envs.costs import require_traded_value
from evaluation.backtest import BacktestWindow
from evaluation.contest import run_contest, run_policy
from evaluation.run_folder import claimed, open_run, publish, record_opening, write_results
from evaluation.summary import RunFacts
from evaluation.summary import build as build_summary
from market.build import build
from market.dataset import Dataset
from market.features import FeatureConfig
from market.load import MarketConfig
from market.quality import QualityRules

Policy = ArtefactPolicy | ChampionPolicy | BaselinePolicy | FixedPolicy


def study(
    market: MarketConfig,
    quality: QualityRules,
    features: FeatureConfig,
    settings: EnvSettings,
    mandates: Sequence[Mandate],
    policy: Policy,
    seed: int,
    out: str | None,
    command: str,
) -> tuple[Path, dict[str, Any]]:
    """Run a policy over the test window and write what came of it.

    Args:
        market: the source, the universe and the windows.
        quality: what the gate refuses or masks.
        features: must be those of the artefact, where the policy is one.
        settings: costs and capital.
        mandates: name the volatility-targeted baselines; must be those of the artefact, where the
            policy is one.
        policy: what to run.
        seed: of the bootstrap intervals.
        out: folder; None is a new one under `runs/`.
        command: as it was typed.

    Returns:
        The folder and the content of its `summary.json`.

    Raises:
        InputError: if the data, the policy or the folder cannot be used.
    """
    started = time.perf_counter()
    trained = None
    plan = None
    if isinstance(policy, ArtefactPolicy | ChampionPolicy):
        trained = artefact.load(artefact_of(policy))
        artefact.check_features(trained, features)
        artefact.check_mandates(trained, mandates)
    data = build(market, quality, features if trained is None else trained.manifest.features)
    require_traded_value(settings.costs, data)
    tensors = MarketTensors.build(data)
    window = BacktestWindow(data.test, settings, market.cash_rate)
    if not isinstance(policy, ArtefactPolicy | ChampionPolicy):
        plan = _schedule(policy, data, mandates)
    prepared = time.perf_counter()
    folder = open_run(out, "backtest", seed)
    with claimed(folder):
        opening = record_opening(folder, data, command)
        known = all_baselines(data, mandates)
        if plan is not None:
            contest = run_policy(data, tensors, window, *plan, known)
        else:
            assert trained is not None, "every other policy has a schedule"
            contest = run_contest(
                data,
                tensors,
                window,
                mandates,
                {mandate.policy: trained.networks.get(mandate.policy) for mandate in mandates},
                trained.manifest.ensemble,
                known,
                {},
            )
        finished = time.perf_counter()
        facts = RunFacts(
            run_id=folder.name,
            command=command,
            seed=seed,
            seconds={"market": prepared - started, "backtest": finished - prepared},
            artefact=None if trained is None else str(trained.folder),
            assumed_adv=market.assumed_adv,
            costs=settings.costs,
            opening=opening,
            trials=None if trained is None else trained.manifest.trials,
        )
        summary = build_summary(facts, data, contest, {})
        write_results(folder, summary, contest)
        publish(folder)
    return folder, summary


def all_baselines(data: Dataset, mandates: Sequence[Mandate]) -> dict[str, Schedule]:
    """Return every baseline's schedule over the test window."""
    return {
        name: baselines.build(name, data, data.test, mandates) for name in baselines.names(mandates)
    }


def _schedule(
    policy: BaselinePolicy | FixedPolicy, data: Dataset, mandates: Sequence[Mandate]
) -> tuple[str, Schedule]:
    """Return the name and the weights of a policy that was not trained."""
    if isinstance(policy, FixedPolicy):
        return "fixed", baselines.fixed(policy.weights, data, data.test)
    return policy.name, baselines.build(policy.name, data, data.test, mandates)
