"""`tercet allocate`: the allocation of one session as JSON, the same that the service answers."""

import asyncio
import json
from pathlib import Path
from typing import Any

from cli.config import AllocateConfig
from cli.quiet import quiet
from cli.verbs import verb
from market.errors import InputError
from risk.access.errors import NotAnswered
from serving.local import recorded_answer


@verb(AllocateConfig)
def main(config: AllocateConfig) -> None:
    """Ask, record the decision and print it."""
    body = json.dumps(_question(config)).encode()
    try:
        with quiet("serving"):
            recorded, opinion = asyncio.run(recorded_answer(config.blueprint(), body))
    except NotAnswered as error:
        raise InputError(f"{error.reason.name}: {error.detail}") from error
    said = recorded.answer
    if config.explain:
        said = {**said, "explanation": opinion.explanation}
    print(json.dumps(said, indent=1))


def _question(config: AllocateConfig) -> dict[str, Any]:
    """Return the body that a caller of the service would send."""
    given = {"as_of": config.as_of, "account": _account(config), "universe": config.universe}
    return {key: value for key, value in given.items() if value is not None}


def _account(config: AllocateConfig) -> Any:
    """Return the account, from its file where one is named."""
    if not isinstance(config.account, str):
        return config.account
    try:
        return json.loads(Path(config.account).read_text())
    except OSError as error:
        raise InputError(f"account={config.account}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"account={config.account} is not JSON: {error}") from error
