"""`tercet promote`: which artefact serves, who tries to replace it, and the way back."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agents.registry import Registry, State
from agents.role_log import Event
from agents.roles import SHORT
from cli.config import PromoteConfig
from cli.verbs import verb
from market.errors import InputError

SUBVERBS = {
    "": "make the artefact at path= the champion",
    "challenger": "try the artefact at path= beside the champion, for a share= of the accounts",
    "rollback": "make the previous champion the champion again",
    "retire": "have no challenger any more",
    "list": "show the roles and every change",
}
TEXTS = ("reason", "path")  # keys whose values are taken as they were typed
WORDY = {"agents", "by", "reason"}  # columns that may take several lines
TAKES = {
    "": {"path", "reason", "public_key", "private_key"},
    "challenger": {"path", "reason", "share", "public_key", "private_key"},
    "rollback": {"reason", "public_key"},
    "retire": {"reason"},
    "list": set[str](),
}


@verb(PromoteConfig)
def main(config: PromoteConfig) -> None:
    """Change the roles, or look at them, and print them."""
    _refuse_unused(config)
    registry = Registry(Path(config.registry))
    if config.subverb != "list":
        _change(registry, config)
    state = registry.state()
    if state.champion is None:
        print(f"{config.registry} has no champion yet")
        return
    console = Console()
    console.print(_roles(state))
    if config.subverb == "list":
        console.print("", _history(registry.history()), sep="\n")


def _change(registry: Registry, config: PromoteConfig) -> None:
    reason = _given(config.reason, "reason", '"why"')
    public, private = _path(config.public_key), _path(config.private_key)
    if config.subverb == "rollback":
        registry.rollback(reason, public)
    elif config.subverb == "retire":
        registry.retire(reason)
    elif config.subverb == "challenger":
        path = Path(_given(config.path, "path", "<artefact>"))
        share = 0.0 if config.share is None else config.share
        registry.challenge(path, reason, share, public, private)
    else:
        path = Path(_given(config.path, "path", "<artefact>"))
        registry.promote(path, reason, public, private)


def _refuse_unused(config: PromoteConfig) -> None:
    """Refuse a key that the subverb would not look at: it was meant for another one."""
    taken = TAKES[config.subverb]
    for key in ("path", "reason", "share", "public_key", "private_key"):
        if getattr(config, key) is not None and key not in taken:
            others = [f"tercet promote {name}".strip() for name in TAKES if key in TAKES[name]]
            command = f"tercet promote {config.subverb}".strip()
            raise InputError(f"{key} means nothing to {command}, only to {', '.join(others)}")


def _given(value: str | None, key: str, example: str) -> str:
    if value is None:
        raise InputError(f"{key} is missing: write {key}={example}")
    return value


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)


def _roles(state: State) -> Table:
    tried = f"challenger {_share(state.share)}"
    roles = {"champion": state.champion, "previous": state.previous, tried: state.challenger}
    table = _table("role", "artefact", "agents", "symbols", "admitted")
    for role, one in roles.items():
        if one is not None:
            words = (
                _short(one.sha256),
                ", ".join(one.agents),
                str(one.universe),
                _minute(one.added),
            )
            table.add_row(role, *map(_plain, words))
    return table


def _history(events: list[Event]) -> Table:
    table = _table("", "time", "change", "artefact", "by", "reason")
    for event in events:
        roles, change = event.roles, event.action
        artefact = {"challenge": roles.challenger, "retire": None}.get(change, roles.champion)
        if change == "challenge":
            change = f"{change} {_share(roles.share)}"
        words = (
            str(event.revision),
            _minute(event.time),
            change,
            _short(artefact),
            event.actor,
            event.reason,
        )
        table.add_row(*map(_plain, words))
    return table


def _share(share: float) -> str:
    return "shadow" if share == 0.0 else f"{share:.4g}"


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name not in WORDY)
    return table


def _plain(words: str) -> Text:
    """Return words that are shown as they are; rich would take brackets in a str for markup."""
    return Text(words)


def _short(sha256: str | None) -> str:
    return "" if sha256 is None else sha256[:SHORT]


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")
