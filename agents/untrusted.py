"""Read what nobody vouches for: plain files of bounded size, JSON without second meanings."""

import json
import math
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from market.errors import InputError

MOST_DEPTH = 16  # of nested JSON; a manifest has 6
MOST_INTEGER = 1 << 53  # beyond it a float, and so many a JSON reader, cannot tell neighbours apart


def read_plain(path: Path, most_bytes: int) -> bytes:
    """Return the content of a regular file, never through a link in its last part.

    A pipe or a device is refused without waiting for what it may say.

    Raises:
        InputError: if the file cannot be read, is no regular file or is larger than `most_bytes`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # a ValueError where the name holds a zero byte
        why = "it is a symbolic link" if _is_link(path) else getattr(error, "strerror", error)
        raise InputError(f"{path} cannot be read: {why}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} cannot be read: it is no regular file")
        if found.st_size > most_bytes:
            raise InputError(f"{path} has {found.st_size} bytes, at most {most_bytes} are read")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(found.st_size)  # should it grow meanwhile, its hash will be wrong
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def strict_json(text: bytes) -> Any:
    """Return a JSON document that every reader understands alike.

    Raises:
        ValueError: if it is none, names a key twice, is nested deeper than `MOST_DEPTH`, or holds
            a number that is not finite or an unprintable character.
    """
    try:
        record = json.loads(
            text.decode(),
            object_pairs_hook=_unique,
            parse_float=_finite,
            parse_int=_bounded,
            parse_constant=_finite,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check_plain(record, MOST_DEPTH)
    return record


def misfit(value: Any, declared: Any, place: str) -> str | None:
    """Return where a value, or a field in it, is not of its declared type; None where all is well.

    Args:
        value: a dataclass is judged by its own fields, down to the last one.
        declared: a type as an annotation writes it; JSON's whole numbers are floats too.
        place: name of the value.

    >>> misfit([1, 2.5], list[float], "by_agent")
    >>> misfit([1, "2"], list[float], "by_agent")
    'by_agent[1]'
    """
    if is_dataclass(value):
        parts = ((getattr(value, f.name), f.type, f"{place}.{f.name}") for f in fields(value))
        return _first(misfit(*part) for part in parts)
    kind, arguments = get_origin(declared), get_args(declared)
    if kind is UnionType:
        fits = any(misfit(value, one, place) is None for one in arguments)
        return None if fits else place
    if kind in (list, tuple) and isinstance(value, kind):
        return _first(misfit(one, arguments[0], f"{place}[{i}]") for i, one in enumerate(value))
    if kind is Mapping and isinstance(value, Mapping):
        return _first(misfit(one, arguments[1], f"{place}.{key}") for key, one in value.items())
    return None if _is(value, kind or declared) else place


def _is(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind or NoneType)


def _first(found: Iterable[str | None]) -> str | None:
    return next((place for place in found if place is not None), None)


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except ValueError:
        return False


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it names {next(n for n in names if names.count(n) > 1)!r} twice")
    return record


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds {text[:20]}, which is not finite")
    return number


def _bounded(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > MOST_INTEGER:
        raise ValueError(f"it holds {text[:20]}, a number beyond {MOST_INTEGER}")
    return int(text)


def _check_plain(value: Any, depth: int) -> None:
    """Refuse what would break whoever walks through the record, or prints it."""
    if depth < 0:
        raise ValueError("it is nested too deeply")
    if isinstance(value, str) and not value.isprintable():
        raise ValueError(f"it holds unprintable characters in {value[:20]!r}")
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for one in value:
            _check_plain(one, depth - 1)
