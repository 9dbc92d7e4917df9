"""Nothing is armed but by a person who says for which account, or on paper before any trip."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product

import pytest
from sqlalchemy import text

from market.errors import InputError
from risk.gateway.latch import arm, arm_paper
from risk.gateway.ledger import Ledger
from risk.gateway.records import Account
from risk.gateway.storage import LedgerFailed, StaleEpoch
from risk.gateway.verify import verify

NOW = datetime(2024, 3, 5, 15, 0, tzinfo=UTC)
PAPER = Account("PA1", True, "USD", *[Decimal(100)] * 5, True, False, False)


@pytest.fixture
def epoch(ledger: Ledger) -> int:
    return ledger.acquire("gateway")


def arm_by_hand(ledger: Ledger, epoch: int, typed: str = "PA1") -> None:
    arm(ledger, epoch, "PA1", typed=typed, seen=ledger.latch(), actor="person", at=NOW)


def test_a_ledger_is_not_armed_before_and_after_its_first_start(ledger: Ledger) -> None:
    assert not ledger.latch().armed
    ledger.acquire("gateway")
    assert (ledger.latch().armed, ledger.latch().tripped) == (False, False)


@pytest.mark.parametrize("typed", ["", "PA", "PA11", "pa1", "PA1 ", "PА1"])
def test_arming_needs_the_account_s_id_to_the_letter(
    ledger: Ledger, epoch: int, typed: str
) -> None:
    with pytest.raises(InputError, match="typed exactly"):
        arm_by_hand(ledger, epoch, typed)
    assert not ledger.latch().armed


def test_an_account_without_an_id_is_never_armed(ledger: Ledger, epoch: int) -> None:
    with pytest.raises(InputError):
        arm(ledger, epoch, "", typed="", seen=ledger.latch(), actor="person", at=NOW)


def test_every_start_disarms_and_keeps_a_trip(ledger: Ledger, epoch: int) -> None:
    arm_by_hand(ledger, epoch)
    assert ledger.latch().armed
    epoch = ledger.acquire("again")
    assert (ledger.latch().armed, ledger.latch().tripped) == (False, False)
    ledger.trip("loss", "supervisor", NOW)
    before = ledger.latch()
    for _ in range(3):
        epoch = ledger.acquire("again")
        assert ledger.latch() == before
        with pytest.raises(InputError, match="only a person re-arms"):
            arm_paper(ledger, epoch, PAPER, NOW)
    arm_by_hand(ledger, epoch)
    assert ledger.latch().armed


def test_a_trip_that_came_after_the_person_looked_is_not_overruled(
    ledger: Ledger, epoch: int
) -> None:
    seen = ledger.latch()
    ledger.trip("loss", "supervisor", NOW)
    with pytest.raises(InputError, match=r"has changed: loss \(supervisor\)"):
        arm(ledger, epoch, "PA1", typed="PA1", seen=seen, actor="person", at=NOW)
    assert ledger.latch().tripped


def test_only_a_paper_account_that_never_tripped_arms_by_itself(ledger: Ledger, epoch: int) -> None:
    for paper, tripped in product((False, True), repeat=2):
        if tripped:
            ledger.trip("loss", "supervisor", NOW)
        if paper and not tripped:
            arm_paper(ledger, epoch, PAPER, NOW)
            assert ledger.latch().armed
            assert ledger.latch().actor == "auto_arm"
        else:
            with pytest.raises(InputError):
                arm_paper(ledger, epoch, replace(PAPER, paper=paper), NOW)
            assert not ledger.latch().armed
        if tripped:  # a person has looked into it, and the gateway has started anew
            arm_by_hand(ledger, epoch)
            epoch = ledger.acquire("again")


def test_an_ended_epoch_arms_nothing(ledger: Ledger, epoch: int) -> None:
    ledger.acquire("another")
    with pytest.raises(StaleEpoch):
        arm_by_hand(ledger, epoch)
    with pytest.raises(StaleEpoch):
        arm_paper(ledger, epoch, PAPER, NOW)


def test_every_change_of_the_latch_is_kept_and_audited(ledger: Ledger, epoch: int) -> None:
    arm_by_hand(ledger, epoch)
    ledger.trip("loss", "supervisor", NOW)
    ledger.trip("drift", "supervisor", NOW)
    history = ledger.latch_history()
    assert [change.id for change in history] == [1, 2, 3, 4]
    assert [change.armed for change in history] == [False, True, False, False]
    assert [change.tripped for change in history] == [False, False, True, True]
    assert verify(ledger, ledger.anchor).ok


def test_a_latch_that_cannot_be_read_is_an_error_and_a_state_nobody_knows_is_a_trip(
    ledger: Ledger, epoch: int
) -> None:
    with ledger._storage.writer.begin() as connection:
        connection.execute(text("UPDATE latch SET state = 'ARMED'"))
    assert (ledger.latch().armed, ledger.latch().tripped) == (False, True)
    with ledger._storage.writer.begin() as connection:
        connection.execute(text("UPDATE latch SET at = 'yesterday'"))
    with pytest.raises(LedgerFailed, match="damaged row"):
        ledger.latch()
