"""`tercet backtest`: run an artefact, a baseline or fixed weights over the test window."""

import shlex
import sys

from agents.mandates import society
from cli.config import BacktestConfig
from cli.verbs import verb
from evaluation.study import study
from evaluation.wording import table, verdict


@verb(BacktestConfig)
def main(config: BacktestConfig) -> None:
    """Run the policy, print the table and say where the files are."""
    folder, summary = study(
        market=config.market,
        quality=config.quality,
        features=config.features,
        settings=config.env,
        mandates=society(config.agents),
        policy=config.policy,
        seed=config.seed,
        out=config.out,
        command=shlex.join(sys.argv),
    )
    print(table(summary), verdict(summary), f"report: {folder / 'report.html'}", sep="\n\n")
