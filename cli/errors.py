"""From an exception to the one line a user can act on."""

import difflib
import re
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from market.compose import CONF
from market.errors import InputError

UNKNOWN_KEY = re.compile(r"Could not override '([^']+)'")
NODE_AS_VALUE = re.compile(r"Invalid type assigned: \w+ is not a subclass of")
UNKNOWN_CHOICE = re.compile(r"Could not find '([^']+)'")
NO_CHOICE = "Config group override must be"  # how Hydra begins the refusal of a number


def explain(error: BaseException, root: str, overrides: list[str]) -> str | None:
    """Return the line for an error of the user's input, or None for a defect of ours.

    Args:
        error: what a verb raised.
        root: name of the verb's root configuration.
        overrides: what followed the verb on the command line.
    """
    if isinstance(error, InputError):
        return _whole_key(_one_line(str(error)), overrides)
    if isinstance(error, InstantiationException):
        cause = error.__cause__
        return _one_line(str(cause if isinstance(cause, ValueError) else error))
    if isinstance(error, ValueError) and str(error).startswith(NO_CHOICE):
        return _no_choice(overrides)
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return None
    group = _group_as_value(overrides)
    if group is not None:
        return group
    text = str(error)
    if found := UNKNOWN_KEY.search(text):
        return _unknown_key(found[1], root)
    if found := UNKNOWN_CHOICE.search(text):
        return _unknown_choice(found[1])
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is missing: write {error.full_key}=<value>"
    detail = str(error.__cause__ or error)
    override = next((o for o in overrides if o in text), "")
    if NODE_AS_VALUE.search(detail):
        return _node_as_value(override)
    if isinstance(error, OverrideParseException):
        return f"cannot read {override!r}: overrides are written key=value or group=choice"
    return _one_line(f"{override}: {detail}" if override not in detail else detail)


def _whole_key(line: str, overrides: list[str]) -> str:
    """Put the key as it was typed in the place of a record's own name for its field."""
    field, _, rest = line.partition(" ")
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        if key.rpartition(".")[2] == field:
            return f"{key} {rest}"
    return line


def _group_as_value(overrides: list[str]) -> str | None:
    """Name the right spelling where a group was overridden like a value (`env.costs=free`)."""
    for override in overrides:
        key, _, value = override.partition("=")
        folder = CONF / key.replace(".", "/")
        if "." in key and folder.is_dir():
            group = key.replace(".", "/")
            return (
                f"{key} is a group, not a value: write {group}={value or '<choice>'}, one of "
                f"{', '.join(_choices(folder))}"
            )
    return None


def _node_as_value(override: str) -> str:
    """Say how to replace a group that was composed at another place (`agents.a.limits=free`)."""
    key, _, value = override.partition("=")
    group = key.rpartition(".")[2]
    if (CONF / group).is_dir():
        return f"{key} is a group, not a value: write {group}@{key}={value}"
    return f"{key} holds several values: override one of them, {key}.<name>=<value>"


def _unknown_key(key: str, root: str) -> str:
    """Name the nearest key or group of the verb's configuration."""
    keys = _keys(root)
    close = difflib.get_close_matches(key, keys, n=1)
    if not close:  # the parent may be right and the last part misspelt
        parent = key.rpartition(".")[0]
        inside = [name.rpartition(".")[2] for name in keys if name.rpartition(".")[0] == parent]
        hint = f"{parent} has {', '.join(inside)}" if parent and inside else "see --help for keys"
        return f"unknown key {key}; {hint}"
    if close[0] == key:
        return f"{key} does not exist under the groups that were chosen; see --cfg job"
    return f"unknown key {key}, did you mean {close[0]}?"


def _unknown_choice(choice: str) -> str:
    """Name the choices of a group."""
    group, _, name = choice.rpartition("/")
    choices = _choices(CONF / group)
    close = difflib.get_close_matches(name, choices, n=1)
    hint = f", did you mean {close[0]}?" if close else ""
    return f"{group}={name} does not exist{hint or '.'} There are: {', '.join(choices)}"


def _no_choice(overrides: list[str]) -> str:
    """Name the group that was given a number, or nothing at all, in place of a choice."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        group, _, place = key.partition("@")
        choices = _choices(CONF / group) if group else []
        if choices and value not in choices:
            return _unknown_choice(f"{group}/{value}") + (f" (at {place})" if place else "")
    return f"cannot read {' '.join(overrides)}: overrides are written key=value or group=choice"


def _choices(group: Path) -> list[str]:
    return sorted(path.stem for path in group.glob("*.yaml"))


def _keys(root: str) -> list[str]:
    """Return every dotted key and every group of a verb's default configuration."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose(root)
    groups = [
        path.relative_to(CONF).as_posix()
        for path in CONF.rglob("*")
        if path.is_dir() and any(path.glob("*.yaml"))
    ]
    return [*_dotted(composed), *groups]


def _dotted(node: DictConfig, prefix: str = "") -> list[str]:
    """Return the dotted names of all nodes."""
    names = []
    for key in map(str, node):
        name = f"{prefix}{key}"
        names.append(name)
        child = None if OmegaConf.is_missing(node, key) else node[key]
        if isinstance(child, DictConfig):
            names += _dotted(child, f"{name}.")
    return names


def _one_line(text: str) -> str:
    """Keep what an OmegaConf message says of the key, on one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [lines[0], *(line for line in lines[1:] if line.startswith("full_key"))]
    return " ".join(kept).replace("full_key: ", "at ") if lines else "empty error"
