"""The tokens file of a service that a verb starts."""

from pathlib import Path

from market.errors import InputError
from risk.access.tokens import load_tokens, make_tokens_file

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def tokens_file(key: str, named: str | None, own: Path, host: str) -> Path:
    """Return the file, made with a random token where none is named and none is there.

    Args:
        key: of the configuration.
        named: its value.
        own: file that is used where none is named; only for callers of this machine.
        host: that is listened on.

    Raises:
        InputError: if others are let in without a named file, or the file cannot be used.
    """
    if named is None and host not in LOOPBACK:
        raise InputError(
            f"host={host} lets others in: write a tokens file and name it with {key}=<file>"
        )
    path = own if named is None else Path(named)
    if named is None and not path.exists():
        make_tokens_file(path)
    load_tokens(path)
    return path
