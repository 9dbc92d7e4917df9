"""`tercet allocate`: the allocation of one session as JSON, the same that the service answers."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

from cli.config import AllocateConfig
from cli.verbs import verb
from market.errors import InputError
from risk.access.errors import NotAnswered
from serving.allocation import answer
from serving.decisions import DecisionLog
from serving.local import LocalBackend
from serving.messages import parse, to_question


@verb(AllocateConfig)
def main(config: AllocateConfig) -> None:
    """Ask, record the decision and print it."""
    logging.getLogger("serving").setLevel(logging.CRITICAL)  # the one line below says it all
    body = json.dumps(_question(config)).encode()
    try:
        said = asyncio.run(_ask(config, body))
    except NotAnswered as error:
        raise InputError(f"{error.reason.name}: {error.detail}") from error
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


async def _ask(config: AllocateConfig, body: bytes) -> dict[str, Any]:
    request = parse(body)
    plan = config.blueprint()
    backend = LocalBackend(
        plan.sources(),
        plan.serving.desk,
        plan.env,
        plan.market.exchange,
        plan.market.cash_rate,
    )
    opinion = await backend.opinion(to_question(request))
    log = DecisionLog(Path(plan.serving.decisions))
    try:
        recorded = await answer(log, request, opinion)
    finally:
        log.close()
    if config.explain:
        return {**recorded.answer, "explanation": opinion.explanation}
    return recorded.answer
