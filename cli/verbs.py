"""The one place where YAML becomes a verb's typed configuration."""

from collections.abc import Callable
from importlib import import_module
from typing import TypeVar

import hydra
from omegaconf import DictConfig

from market.compose import CONF, typed

Config = TypeVar("Config")


class Failed(BaseException):
    """Carries an error out of a verb; Hydra prints what it can catch, and catches Exceptions."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def verb(kind: type[Config]) -> Callable[[Callable[[Config], None]], Callable[[], None]]:
    """Turn a function of a typed configuration into a Hydra application.

    Args:
        kind: the verb's root schema; `conf/<module name>.yaml` is its root file, and `register` of
            the module that defines the schema stores all that it is composed of.
    """

    def decorate(run: Callable[[Config], None]) -> Callable[[], None]:
        def task(composed: DictConfig) -> None:
            try:
                run(typed(composed, kind))
            except Exception as error:
                raise Failed(error) from error

        task.__module__ = run.__module__
        name = run.__module__.rpartition(".")[2]
        application: Callable[[], None] = hydra.main(
            config_path=str(CONF), config_name=name, version_base="1.3"
        )(task)

        def registered() -> None:
            import_module(kind.__module__).register()
            application()

        return registered

    return decorate
