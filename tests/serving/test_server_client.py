"""An allocation asked for over HTTP is the one that this process would make."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.policies import ArtefactPolicy
from brokers.exchange.serve import running
from market.errors import InputError, Refused
from risk.access.callers import BearerToken
from risk.access.tokens import Role, Tokens
from serving.asking import Silent
from serving.decisions import DecisionLog
from serving.local import recorded_answer
from serving.server_client import ServerClient
from serving.web import make_app

TOKENS = {"allocate-token-of-the-tests": Role.allocate, "read-token-of-the-tests": Role.read}
ACCOUNT = {"id": "PA1", "cash": "100000", "positions": {}}


@pytest.fixture
def plan(world: Any, tmp_path: Path) -> Any:
    return world.plan(ArtefactPolicy(str(world.artefact(1))), tmp_path)


@pytest.fixture
def server(world: Any, plan: Any, tmp_path: Path) -> Iterator[str]:
    log = DecisionLog(tmp_path / "served.sqlite")
    app = make_app(world.backend(plan), log, plan.serving.web, Tokens(TOKENS))
    with running(app) as url:
        yield url
    log.close()


def client(url: str, role: str = "allocate") -> ServerClient:
    return ServerClient(url, BearerToken(f"{role}-token-of-the-tests"), 60.0)


def test_the_servers_allocation_is_the_one_of_this_process(
    server: str, world: Any, plan: Any
) -> None:
    answer, explanation = client(server).allocation(ACCOUNT)
    body = json.dumps({"account": ACCOUNT}).encode()
    recorded, opinion = asyncio.run(recorded_answer(plan, body, lambda: world.now))
    for one in (answer, recorded.answer):
        del one["diagnostics"]["seconds"]
    assert json.dumps(answer, sort_keys=True) == json.dumps(recorded.answer, sort_keys=True)
    assert explanation == json.loads(json.dumps(opinion.explanation))


def test_a_role_that_may_not_ask_is_told_so_and_a_silent_server_is_no_answer(server: str) -> None:
    with pytest.raises(InputError, match=r"server\.tokens must hold"):
        client(server, "read").allocation(ACCOUNT)
    with pytest.raises(Silent, match="no server answers"):
        client("http://127.0.0.1:1").allocation(ACCOUNT)


def test_a_question_that_nobody_can_answer_is_refused_in_words(server: str) -> None:
    with pytest.raises(Refused, match="the server says 422"):
        client(server).allocation({**ACCOUNT, "cash": "plenty"})
