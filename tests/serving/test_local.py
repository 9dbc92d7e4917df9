"""The backend of one process: who is asked, from which registry and over which data."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agents.policies import ArtefactPolicy, ChampionPolicy
from agents.registry import Registry
from risk.access.errors import NotAnswered, Reason
from serving.questions import Opinion, Question
from serving.routing import place

ANYBODY = Question(None, None, None)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def ask(world: Any, tmp_path: Path) -> Callable[[Question], Opinion]:
    plan = world.plan(ChampionPolicy(str(tmp_path / "registry")), tmp_path)
    backend = world.backend(plan)
    return lambda question: asyncio.run(backend.opinion(question))


def test_without_a_champion_there_is_no_answer(ask: Callable[[Question], Opinion]) -> None:
    with pytest.raises(NotAnswered) as caught:
        ask(ANYBODY)
    assert caught.value.reason is Reason.no_model and "tercet promote" in caught.value.detail


def test_promotion_and_rollback_change_the_next_answer(
    ask: Callable[[Question], Opinion], registry: Registry, world: Any
) -> None:
    first = registry.promote(world.artefact(1), "the first one")
    one = ask(ANYBODY)
    second = registry.promote(world.artefact(2), "a better one")
    two = ask(ANYBODY)
    registry.rollback("it was not")
    assert one.model["sha256"] == first.sha256 and two.model["sha256"] == second.sha256
    assert ask(ANYBODY).weights == one.weights != two.weights


def test_a_canary_answers_its_share_of_accounts_and_nobody_else(
    ask: Callable[[Question], Opinion], registry: Registry, world: Any
) -> None:
    champion = registry.promote(world.artefact(1), "champion").sha256
    challenger = registry.challenge(world.artefact(2), "try it", 0.3).sha256
    served = {
        account: ask(Question(None, account, None)).model["sha256"]
        for account in (f"account-{i}" for i in range(60))
    }
    assert set(served.values()) == {champion, challenger}
    for account, sha256 in served.items():
        assert (sha256 == challenger) == place(account, 0.3)
    assert ask(ANYBODY).model["sha256"] == champion


def test_a_challenger_in_shadow_is_asked_beside_and_never_served(
    registry: Registry, world: Any, tmp_path: Path
) -> None:
    backend = world.backend(world.plan(ChampionPolicy(str(registry.folder)), tmp_path))
    champion = registry.promote(world.artefact(1), "champion").sha256
    question = Question(None, "account", None)
    assert asyncio.run(backend.shadow(question)) is None
    challenger = registry.challenge(world.artefact(2), "watch it", 0.0).sha256
    shadow = asyncio.run(backend.shadow(question))
    assert shadow is not None and shadow.model["sha256"] == challenger
    assert asyncio.run(backend.opinion(question)).model["sha256"] == champion
    models = {m["role"]: m for m in asyncio.run(backend.models())}
    assert models["champion"]["share"] == 1.0 and models["challenger"]["share"] == 0.0


def test_a_folder_is_served_as_it_was_when_it_was_read(world: Any, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(world.artefact(1), folder)
    backend = world.backend(world.plan(ArtefactPolicy(str(folder)), tmp_path))
    shutil.rmtree(folder)
    assert asyncio.run(backend.opinion(ANYBODY)).as_of == world.last


def test_a_few_names_are_answered_as_their_own_market(world: Any, tmp_path: Path) -> None:
    backend = world.backend(world.plan(ArtefactPolicy(str(world.artefact(1))), tmp_path))
    few = world.data.bars.symbols[:4]
    opinion = asyncio.run(backend.opinion(Question(None, None, few)))
    assert set(opinion.weights) == {*few, "CASH"}
    other_order = asyncio.run(backend.opinion(Question(None, None, few[::-1])))
    assert other_order.weights == opinion.weights


def test_when_the_next_session_has_closed_the_same_data_are_stale(
    world: Any, tmp_path: Path
) -> None:
    plan = world.plan(ArtefactPolicy(str(world.artefact(1))), tmp_path)
    backend = world.backend(plan, world.now + timedelta(days=4))
    with pytest.raises(NotAnswered) as caught:
        asyncio.run(backend.opinion(ANYBODY))
    assert caught.value.reason is Reason.stale_data
