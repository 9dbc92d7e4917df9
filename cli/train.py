"""`tercet train`: train the agents, export the artefact and judge it out of sample."""

import shlex
import sys

from cli.config import TrainConfig
from cli.verbs import verb
from evaluation.wording import table, verdict
from training.train import run


@verb(TrainConfig)
def main(config: TrainConfig) -> None:
    """Train, print the out-of-sample table and say where the files are."""
    folder, summary = run(
        config.configuration(),
        config.cluster,
        out=config.out,
        resume=config.resume,
        command=shlex.join(sys.argv),
    )
    print(
        table(summary),
        verdict(summary),
        f"report:   {folder / 'report.html'}\nartefact: {folder / 'artefact'}",
        sep="\n\n",
    )
