"""Limits loosen by two persons' keys and the next session only; ramp and history by the API."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from brokers.alpaca import AlpacaBroker
from cli import gateway_rules
from market.errors import InputError
from risk.access.errors import NotAnswered
from risk.access.strict import strict
from risk.access.tokens import Role
from risk.gateway.governing import RampRequest
from risk.gateway.limits_in_force import MOST_OPEN
from risk.gateway.replay import judged_again
from risk.gateway.signing import load_persons, signature
from risk.gateway.verify import verify

MODEL = "a" * 64
Ask = Callable[..., Any]


def key_files(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a person's keys, and return the files of the private and the public one."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    shown = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public.write_bytes(shown)
    return private, public


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the client's test of itself, which is two seconds of silence."""
    monkeypatch.setattr(AlpacaBroker, "self_test", lambda _: None)


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    """Return private keys of three persons, whose public ones lie beside them."""
    return {name: key_files(tmp_path, name)[0] for name in ("ada", "bob", "eve")}


@pytest.fixture
def governed(hurried: None, house: Any, keys: dict[str, Path], tmp_path: Path) -> Any:
    """Return a gateway for which ada and bob may sign, and eve may not."""
    public = {name: str(tmp_path / f"{name}.pub.pem") for name in ("ada", "bob")}
    house.running.gateway._limits._persons = load_persons(public)
    return house


@pytest.fixture
def ask(governed: Any) -> Ask:
    """Return what asks the service as the command does."""

    def asked(_config: Any, method: str, path: str, body: Any = None) -> Any:
        reply = governed.ask_once(method, path, body)
        found = json.loads(reply.body)
        if reply.status != 200:
            raise InputError(str(found["error"]["reason"]))
        return found

    return asked


def typed(**given: Any) -> Any:
    """Return what was typed behind the command, as far as its subverbs read it."""
    names = ("file", "proposal", "person", "key", "model", "stage")
    return SimpleNamespace(**(dict.fromkeys(names) | given))


def loose(governed: Any, tmp_path: Path, **changed: str) -> str:
    """Write limits that allow more into a file."""
    limits = governed.running.gateway.limits.record() | (changed or {"max_order_weight": "0.2"})
    file = tmp_path / "limits.json"
    file.write_text(json.dumps(limits))
    return str(file)


def proposal_of(governed: Any) -> Any:
    (found,) = governed.running.ledger.proposals("open", "signed")
    return found


def next_session(governed: Any) -> None:
    governed.admin("PUT", "/clock", {"to": "next_open"})
    governed.permit()
    governed.running.gateway.step()


def test_two_persons_sign_and_the_next_session_has_the_looser_limits(
    governed: Any, ask: Ask, keys: Any, tmp_path: Path, capsys: Any
) -> None:
    gateway = governed.running.gateway
    file = loose(governed, tmp_path)
    with pytest.raises(InputError, match="two persons"):
        gateway_rules.show_limits(typed(file=file), ask)
    gateway_rules.propose(typed(file=file), ask)
    proposal = proposal_of(governed)
    for person in ("ada", "bob"):
        next_session(governed)
        assert str(gateway.limits.max_order_weight) == "0.10", "one is too few"
        gateway_rules.sign(typed(proposal=proposal.id, person=person, key=str(keys[person])), ask)
    gateway.step()
    assert str(gateway.limits.max_order_weight) == "0.10", "not in this session"
    gateway_rules.show_limits(typed(), ask)
    said = capsys.readouterr().out
    assert "max_order_weight: 0.10 -> 0.2" in said and "signed by: ada, bob" in said
    next_session(governed)
    assert str(gateway.limits.max_order_weight) == "0.2"
    stored = governed.running.ledger.limits()
    assert json.loads(stored.body)["max_order_weight"] == "0.2"
    assert stored.actor == "signed by ada, bob"
    assert governed.running.ledger.proposal(proposal.id).state == "in_force"
    ledger = governed.running.ledger
    assert verify(ledger, ledger.anchor, judged_again).ok


def test_one_person_is_never_two(governed: Any, ask: Ask, keys: Any, tmp_path: Path) -> None:
    gateway = governed.running.gateway
    gateway_rules.propose(typed(file=loose(governed, tmp_path)), ask)
    proposal = proposal_of(governed)
    text = gateway.text_of(proposal)
    ada, eve = signature(keys["ada"], text), signature(keys["eve"], text)
    gateway.sign(proposal.id, "ada", ada)
    gateway.sign(proposal.id, "ada", ada)
    for person, signed in (
        ("bob", ada), ("eve", eve), ("bob", eve), ("Ada", ada), ("ada ", ada), ("bob", "00" * 64),
        ("bob", signature(keys["bob"], text + " ")), ("bob", signature(keys["bob"], proposal.id)),
    ):  # fmt: skip
        body = {"proposal": proposal.id, "person": person, "signature": signed}
        reply = governed.ask_once("POST", "/v1/limits/signatures", body)
        assert reply.status in (409, 422), (person, reply)
    for _ in range(3):
        next_session(governed)
    assert str(gateway.limits.max_order_weight) == "0.10"
    assert proposal_of(governed).signatures == {"ada": ada}


def test_a_signature_serves_one_proposal_only(
    governed: Any, ask: Ask, keys: Any, tmp_path: Path
) -> None:
    gateway = governed.running.gateway
    first = gateway.propose(replace(gateway.limits, max_orders_day=200), "a person")
    signed = {name: signature(keys[name], gateway.text_of(first)) for name in ("ada", "bob")}
    governed.admin("PUT", "/clock", {"advance_s": 1})
    second = gateway.propose(replace(gateway.limits, max_orders_day=200), "a person")
    assert first.id != second.id
    for name, one in signed.items():
        with pytest.raises(InputError, match="no signature"):
            gateway.sign(second.id, name, one)
    for name, one in signed.items():
        gateway.sign(first.id, name, one)
    next_session(governed)
    assert gateway.limits.max_orders_day == 200
    assert gateway.tighten(replace(gateway.limits, max_orders_day=100), "a person").allowed
    for name, one in signed.items():
        with pytest.raises(InputError, match="void or in force"):
            gateway.sign(first.id, name, one)
    next_session(governed)
    assert gateway.limits.max_orders_day == 100
    assert governed.running.ledger.proposal(second.id).state == "void"


def test_limits_that_tighten_meanwhile_void_what_was_signed(
    governed: Any, keys: Any, tmp_path: Path
) -> None:
    gateway = governed.running.gateway
    proposal = gateway.propose(replace(gateway.limits, max_orders_day=200), "a person")
    for name in ("ada", "bob"):
        gateway.sign(proposal.id, name, signature(keys[name], gateway.text_of(proposal)))
    assert gateway.tighten(replace(gateway.limits, max_failures=2), "a person").allowed
    next_session(governed)
    assert (gateway.limits.max_orders_day, gateway.limits.max_failures) == (100, 2)
    assert governed.running.ledger.proposal(proposal.id).state == "void"


def test_who_is_not_among_the_persons_any_more_has_not_signed(
    governed: Any, keys: Any, tmp_path: Path
) -> None:
    gateway = governed.running.gateway
    proposal = gateway.propose(replace(gateway.limits, max_orders_day=200), "a person")
    for name in ("ada", "bob"):
        gateway.sign(proposal.id, name, signature(keys[name], gateway.text_of(proposal)))
    public = {name: str(tmp_path / f"{name}.pub.pem") for name in ("ada", "eve")}
    gateway._limits._persons = load_persons(public)
    next_session(governed)
    assert gateway.limits.max_orders_day == 100
    assert governed.running.ledger.proposal(proposal.id).state == "void"


def test_what_is_signed_survives_a_restart_in_between(
    governed: Any, keys: Any, tmp_path: Path
) -> None:
    gateway, ledger = governed.running.gateway, governed.running.ledger
    proposal = gateway.propose(replace(gateway.limits, max_orders_day=200), "a person")
    for name in ("ada", "bob"):
        gateway.sign(proposal.id, name, signature(keys[name], gateway.text_of(proposal)))
    stored = ledger.proposal(proposal.id)
    assert stored.state == "signed" and str(stored.signed_in) == "2023-06-01"
    assert gateway.text_of(stored) == gateway.text_of(proposal)
    gateway._limits.begin_session(governed.parts.broker.clock().now, None)
    assert gateway.limits.max_orders_day == 100, "no session, no new limits"


def test_proposals_need_a_reason_to_be_signed_and_are_few(governed: Any) -> None:
    gateway = governed.running.gateway
    with pytest.raises(InputError, match="loosen nothing"):
        gateway.propose(replace(gateway.limits, max_orders_day=50), "a person")
    for number in range(MOST_OPEN):
        gateway.propose(replace(gateway.limits, max_orders_day=200 + number), "a person")
    with pytest.raises(InputError, match="wait already"):
        gateway.propose(replace(gateway.limits, max_orders_day=300), "a person")
    gateway._limits._persons = {}
    with pytest.raises(InputError, match="must name 2"):
        gateway.propose(replace(gateway.limits, max_orders_day=400), "a person")


def test_a_key_of_two_names_and_a_file_that_is_no_key_are_refused(tmp_path: Path) -> None:
    _, public = key_files(tmp_path, "ada")
    with pytest.raises(InputError, match="have the same key"):
        load_persons({"ada": str(public), "alias": str(public)})
    for wrong in (tmp_path / "none", key_files(tmp_path, "bob")[0]):
        with pytest.raises(InputError, match=r"service\.persons\.ada"):
            load_persons({"ada": str(wrong)})
    with pytest.raises(InputError):
        signature(public, "text")


def test_the_command_does_not_sign_what_it_is_not_shown(
    governed: Any, ask: Ask, keys: Any, tmp_path: Path
) -> None:
    gateway_rules.propose(typed(file=loose(governed, tmp_path)), ask)
    proposal = proposal_of(governed)

    def lying(config: Any, method: str, path: str, body: Any = None) -> Any:
        found = ask(config, method, path, body)
        for one in found.get("proposals", ()):
            one["limits"]["max_order_weight"] = "0.11"
        return found

    with pytest.raises(InputError, match="shows other limits"):
        gateway_rules.sign(typed(proposal=proposal.id, person="ada", key=str(keys["ada"])), lying)
    assert proposal_of(governed).signatures == {}


def test_only_admins_propose_sign_and_ramp(governed: Any) -> None:
    limits = {"limits": governed.running.gateway.limits.record()}
    for path, body in (
        ("/v1/limits/proposals", limits),
        ("/v1/limits/signatures", {}),
        ("/v1/ramp", {"model": MODEL, "stage": 0}),
    ):
        for role in (Role.read, Role.allocate):
            assert governed.ask_once("POST", path, body, role).status == 403
    head = governed.head
    for body in ({"model": MODEL, "stage": -1}, {"model": "x", "stage": 0}, {"model": MODEL}):
        assert governed.ask_once("POST", "/v1/ramp", body).status == 422
    assert governed.ask_once("POST", "/v1/ramp", {"model": MODEL, "stage": 1}).status == 409
    assert governed.head == head


def test_the_command_shows_days_and_ramps(governed: Any, ask: Ask, capsys: Any) -> None:
    gateway_rules.ramp(typed(model=MODEL, stage=0), ask)
    governed.running.gateway.step()
    gateway_rules.history(typed(), ask)
    said = capsys.readouterr().out
    assert "2023-05-31" in said and "100,000.00" in said and "stage 0" in said


@pytest.mark.parametrize("stage", ["true", '"1"', "1.5", "-1", "100", "null"])
def test_a_stage_is_a_whole_number(stage: str) -> None:
    body = f'{{"model": "{"a" * 64}", "stage": {stage}}}'.encode()
    with pytest.raises(NotAnswered):
        strict(RampRequest, body)
    assert strict(RampRequest, body.replace(stage.encode() + b"}", b"1.0}")).stage == 1
