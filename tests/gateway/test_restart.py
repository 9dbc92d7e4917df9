"""A gateway that is replaced in mid-session, and keys that stop working in mid-basket."""

from typing import Any

import pytest

from risk.gateway.records import OrderState
from risk.gateway.storage import StaleEpoch
from risk.gateway.stored import DecisionState
from risk.gateway.submission import Mode

PERSON = "a person"
FOUR = {"S000": "0.06", "S001": "0.06", "S002": "0.06", "S003": "0.06"}


def arm(venue: Any) -> None:
    verdict = venue.gateway.arm(venue.broker.account().id, venue.ledger.latch(), PERSON)
    assert verdict.allowed, verdict


def test_a_gateway_that_is_replaced_in_mid_basket_goes_on_only_when_a_person_has_armed(
    venue: Any,
) -> None:
    answer = venue.gateway.submit(venue.decision(**FOUR), Mode.paper)
    venue.gateway.step()
    sent = len(venue.posted())
    assert 0 < sent < 4, "the basket is under way"
    venue.ledger.close()
    new = venue.rebuild()
    with pytest.raises(StaleEpoch):
        venue.gateway.step()
    assert new.gateway.recover().clean
    assert not new.ledger.latch().armed and not new.ledger.latch().tripped
    for _ in range(3):  # follows what is out, and sends nothing
        new.permit.renew(new.epoch, 30_000)
        new.gateway.step()
        new.advance(60.0)
    assert len(new.posted()) == sent
    again = new.gateway.submit(new.decision(**FOUR), Mode.paper)
    assert again.decision_id == answer.decision_id and len(again.orders) == 4
    arm(new)
    new.run(steps=14)
    done = new.gateway.answer(answer.decision_id)
    assert done.state is DecisionState.done
    assert {one.state for one in new.ledger.orders()} == {OrderState.filled}
    ids = [one["client_order_id"] for one in new.bodies()]
    assert len(ids) == len(set(ids)) == 4
    new.require_equal_books()


def test_one_restart_after_the_other_changes_nothing(venue: Any) -> None:
    venue.gateway.submit(venue.decision(**FOUR), Mode.paper)
    venue.gateway.step()
    for _ in range(4):
        venue.ledger.close()
        venue = venue.rebuild()
        venue.gateway.recover()
        venue.permit.renew(venue.epoch, 30_000)
        venue.gateway.step()
        venue.advance(60.0)
    assert not venue.ledger.latch().armed
    arm(venue)
    venue.run(steps=14)
    assert {one.state for one in venue.ledger.orders()} == {OrderState.filled}
    assert len(venue.posted()) == 4
    venue.require_equal_books()


def test_keys_that_are_revoked_in_mid_basket_stop_everything_without_a_storm(venue: Any) -> None:
    answer = venue.gateway.submit(venue.decision(**FOUR), Mode.paper)
    venue.gateway.step()
    before = len(venue.posted())
    refused = {"method": None, "path": "/v2/(?!clock).*", "kind": "status", "status": 401}
    venue.admin("POST", "/faults", {**refused, "times": None})
    venue.admin("DELETE", "/sent")
    venue.run(steps=10)
    asked = venue.admin("GET", "/sent")
    assert len(venue.posted()) <= 1, "one refusal is enough"
    assert len(asked) <= 10 * 40, "no storm of reads either"
    venue.admin("DELETE", "/faults")
    venue.ledger.close()
    new = venue.rebuild()  # as with new keys in the environment
    new.gateway.recover()
    sent = len(new.posted())
    for _ in range(3):
        new.permit.renew(new.epoch, 30_000)
        new.gateway.step()
        new.advance(60.0)
    assert len(new.posted()) == sent, "nothing before a person arms"
    new.run(steps=3)
    arm(new)
    new.run(steps=14)
    orders = new.gateway.answer(answer.decision_id).orders
    assert len(orders) == 4 and before >= 1
    new.require_equal_books()


def test_a_key_that_is_refused_when_an_order_is_sent_trips_the_latch(venue: Any) -> None:
    venue.gateway.submit(venue.decision(**FOUR), Mode.paper)
    venue.fault("status", status=401, times=None)
    venue.run(steps=5)
    assert venue.ledger.latch().tripped and "keys" in venue.ledger.latch().reason
    assert len(venue.posted()) == 1
    assert venue.gateway.submit(venue.decision(2, S004="0.05"), Mode.paper).state is (
        DecisionState.refused
    )
