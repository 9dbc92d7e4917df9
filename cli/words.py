"""The words of a command line that are no overrides: a verb and, after some verbs, a subverb.

A verb that has subverbs names them in its module's `SUBVERBS`, with what each one does; "" stands
for the verb alone, where that means something. The word reaches Hydra as the key `subverb`.
"""

import re
from collections.abc import Iterable, Mapping

from market.errors import InputError
from market.suggest import nearest

HELP = {"-h", "--help"}


def with_subverb(verb: str, rest: list[str], subverbs: Mapping[str, str]) -> list[str]:
    """Return what follows the verb with its subverb as an override.

    With `--help` among it the subverbs are printed, and the rest is left to Hydra's own help.

    Raises:
        InputError: if the verb knows no such subverb, or needs one.

    >>> with_subverb("bench", ["kernel", "repeats=3"], {"kernel": "..."})
    ['repeats=3', 'subverb=kernel']
    """
    word, overrides = _split(rest)
    if HELP & set(overrides):
        shape = "[<subverb>]" if "" in subverbs else "<subverb>"
        print(f"usage: tercet {verb} {shape} [key=value] ...\n\n{listed(subverbs)}\n")
        return overrides
    if word in subverbs:
        return [*overrides, f"subverb={word}"]
    if not word:
        raise InputError(f"{verb} needs one of {', '.join(subverbs)}; see tercet {verb} --help")
    near = nearest(word, subverbs) or f"; there are {', '.join(filter(None, subverbs))}"
    raise InputError(f"{verb} knows no {word!r}{near}")


def as_typed(arguments: list[str], keys: Iterable[str]) -> list[str]:
    """Return the arguments with the values of some keys quoted, for what people write in words.

    Unquoted, a comma would be a sweep to Hydra and `null` nothing.

    >>> as_typed(["reason=better, by far", "seed=1"], ["reason"])
    ["reason='better, by far'", 'seed=1']
    """
    return [
        _quoted(argument) if argument.partition("=")[0] in keys else argument
        for argument in arguments
    ]


def _quoted(argument: str) -> str:
    key, _, value = argument.partition("=")
    # To Hydra a backslash is one, except in front of a quote.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + (found[2] and "\\'"), value)
    return f"{key}='{escaped}'"


def _split(rest: list[str]) -> tuple[str, list[str]]:
    """Split the word after the verb, "" where there is none, from the overrides and options."""
    if rest and "=" not in rest[0] and not rest[0].startswith(("-", "+", "~")):
        return rest[0], rest[1:]
    return "", rest


def options_last(arguments: list[str]) -> list[str]:
    """Return the overrides before everything else: Hydra's parser reads one run of them only.

    >>> options_last(["seed=2", "--cfg", "job", "repeats=3"])
    ['seed=2', 'repeats=3', '--cfg', 'job']
    """
    return sorted(arguments, key=lambda word: word.startswith("-") or "=" not in word)


def listed(names: Mapping[str, str]) -> str:
    """Return one line a name, with what it does."""
    shown = {name or "(none)": text for name, text in names.items()}
    width = max(map(len, shown))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in shown.items())
