"""`tercet backtest`: run an artefact, a baseline or fixed weights over the test window."""

import shlex
import sys

import hydra
from omegaconf import DictConfig

from cli.config import BacktestConfig, typed
from envs.make import CONF
from evaluation.study import study
from evaluation.wording import table, verdict


@hydra.main(config_path=str(CONF), config_name="backtest", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Run the policy, print the table and say where the files are."""
    config = typed(composed, BacktestConfig)
    folder, summary = study(
        market=config.market,
        quality=config.quality,
        features=config.features,
        settings=config.env,
        mandates=list(config.agents.values()),
        policy=config.policy,
        seed=config.seed,
        out=config.out,
        command=shlex.join(sys.argv),
    )
    print(table(summary), verdict(summary), f"report: {folder / 'report.html'}", sep="\n\n")
