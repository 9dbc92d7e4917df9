"""`tercet tune`: search settings on inner folds, and train the best of them."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cli.config import TuneConfig, register
from cli.verbs import verb
from evaluation.wording import number, table, verdict
from market.compose import CONF, typed
from market.errors import InputError
from training.configuration import Configuration
from training.search_space import Setting
from training.tune import run


@dataclass(frozen=True, slots=True)
class Composer:
    """Composes the configuration of a trial, in whatever process it runs.

    Args:
        overrides: as they were typed; those of a trial come after them.
    """

    overrides: tuple[str, ...]

    def __call__(self, setting: Setting) -> Configuration:
        """Return the configuration of a trial.

        Raises:
            InputError: if a value is out of range.
        """
        return typed(self._composed(setting, False), TuneConfig).configuration()

    def values(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return what the keys hold without a trial's setting.

        Raises:
            InputError: if there is no such key.
        """
        composed = self._composed({}, True)
        return {key: _value(composed, key) for key in keys}

    def _composed(self, setting: Setting, with_hydra: bool) -> DictConfig:
        register()
        GlobalHydra.instance().clear()  # the verb's own, in the process that was typed into
        own = [f"{key}={_written(value)}" for key, value in setting.items()]
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose("tune", [*self.overrides, *own], return_hydra_config=with_hydra)


@verb(TuneConfig)
def main(config: TuneConfig) -> None:
    """Search, train the best, print what was found and say where the files are."""
    composer = Composer(tuple(HydraConfig.get().overrides.task))
    folder, found, summary = run(
        config.configuration(),
        config.tune,
        config.cluster,
        composer,
        composer.values(list(config.tune.ranges)),
        out=config.out,
        resume=config.resume,
        command=shlex.join(sys.argv),
    )
    print(
        _searched(found),
        table(summary),
        verdict(summary),
        f"trials:   {folder / 'trials.parquet'}\nreport:   {folder / 'report.html'}\n"
        f"artefact: {folder / 'artefact'}",
        sep="\n\n",
    )


def _searched(found: dict[str, Any]) -> str:
    """Return what the search found, as aligned text."""
    states = ", ".join(f"{count} {name}" for name, count in found["states"].items() if count)
    lines = [
        f"{found['trials']} trials with {found['configurations']} configurations: {states}",
        "score: information ratio over equal weight on the inner folds, net of costs",
    ]
    for name in ("default", "best"):
        row = found[name]
        if row is not None:
            error = number(row["standard_error"])
            lines.append(f"  {name:<8} {number(row['score'])} ± {error}  (trial {row['trial']})")
    lines.append(
        f"probability that the best is more than the luckiest of {found['compared']} "
        f"configurations tried on this data: {number(found['deflated'])}"
    )
    chosen = found["best"]["settings"].items()
    lines.append("the best: " + " ".join(f"{key}={_written(value)}" for key, value in chosen))
    return "\n".join(lines)


def _value(composed: DictConfig, key: str) -> Any:
    """Return a value, or the choice of a group."""
    choices = composed.hydra.runtime.choices
    if key in choices:
        return choices[key]
    value = OmegaConf.select(composed, key, default=KeyError)
    if value is KeyError or isinstance(value, DictConfig):
        raise InputError(f"tune.space.{key}: the configuration has no such value")
    return value


def _written(value: Any) -> str:
    """Return a value as an override has it."""
    return value if isinstance(value, str) else json.dumps(value)
