"""From composed YAML to typed objects; every configured program goes this way, once."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TypeVar

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from market.errors import InputError

Config = TypeVar("Config")

CONF = Path(__file__).resolve().parent.parent / "conf"


def typed(composed: DictConfig, kind: type[Config]) -> Config:
    """Turn a composed configuration into its typed objects, once.

    Raises:
        InputError: if a value is out of range, or a key was added that nothing reads; names the
            key and the value.
    """
    for key in _unread(composed):
        raise InputError(f"unknown key {key}")
    try:
        config = hydra.utils.instantiate(composed, _convert_="object")
    except ValueError as error:
        raise InputError(str(error)) from error
    except InstantiationException as error:  # what a `_target_` raised is its cause
        if isinstance(error.__cause__, ValueError):
            raise InputError(str(error.__cause__)) from error
        raise
    if not isinstance(config, kind):
        raise TypeError(f"{type(config)} is not a {kind}")
    return config


def _unread(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys that were added (`+key=value`) to records that do not have them."""
    kind = OmegaConf.get_type(node)
    known = {item.name for item in fields(kind)} if is_dataclass(kind) else None
    for key in map(str, node):
        if known is not None and key not in known:
            yield f"{prefix}{key}"
        elif not OmegaConf.is_missing(node, key) and isinstance(node[key], DictConfig):
            yield from _unread(node[key], f"{prefix}{key}.")
