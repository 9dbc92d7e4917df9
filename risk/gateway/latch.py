"""Who may arm: a person who types the account's id, or a paper account by itself.

Tripping is `Ledger.trip`, or `Writer.set_latch` within a transaction, and needs nobody's leave.
"""

from datetime import datetime

from market.errors import InputError
from risk.gateway.ledger import Ledger
from risk.gateway.records import Account
from risk.gateway.stored import Latch


def arm(
    ledger: Ledger,
    epoch: int,
    account_id: str,
    *,
    typed: str,
    seen: Latch,
    actor: str,
    at: datetime,
) -> None:
    """Arm because a person wants it.

    Args:
        ledger: of the account.
        epoch: of the gateway.
        account_id: as the broker says it.
        typed: what the person typed to confirm.
        seen: the latch that the person has seen: what tripped it since then is not overruled.
        actor: the person.
        at: UTC.

    Raises:
        InputError: if the id is another one, or the latch has changed since it was seen.
    """
    if not account_id or typed != account_id:
        raise InputError(f"arming needs the account's id typed exactly, was {typed!r}")
    with ledger.writing(epoch) as writer:
        now = writer.latch()
        if now != seen:
            raise InputError(f"the latch has changed: {now.reason} ({now.actor}); look again")
        writer.set_latch(True, f"armed by {actor} for account {account_id}", actor, at)


def arm_paper(ledger: Ledger, epoch: int, account: Account, at: datetime) -> None:
    """Arm by itself, where no money is at stake and nothing has tripped.

    Raises:
        InputError: if the broker does not say that the account is paper, or after a trip.
    """
    if account.paper is not True:
        raise InputError(f"account {account.id} is not paper: only a person arms it")
    with ledger.writing(epoch) as writer:
        now = writer.latch()
        if now.tripped:
            raise InputError(f"tripped by {now.actor}: {now.reason}; only a person re-arms")
        writer.set_latch(True, f"paper account {account.id} arms by itself", "auto_arm", at)
