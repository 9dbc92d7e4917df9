"""`tercet gateway quality`: how well a session's orders were carried out, read from the ledger."""

import json
from datetime import date

from cli.account_config import GatewayConfig
from market.errors import InputError
from risk.gateway.process import open_ledger
from risk.gateway.quality import qualities, record, summary


def quality(config: GatewayConfig) -> None:
    """Print what each order cost beside its decision's price and the price as it was sent.

    Raises:
        InputError: if the session is no date, or there is no order in it.
        LedgerFailed: if the ledger cannot be read.
    """
    ledger = open_ledger(config.control)
    session = ledger.last_session() if config.session is None else _date(config.session)
    orders = [] if session is None else ledger.orders_between(session, session)
    if session is None or not orders:
        raise InputError(
            f"{ledger.place} has no order{'' if session is None else f' of {session}'}"
        )
    found = qualities(ledger, orders)
    told = {
        "session": session.isoformat(),
        "summary": summary(found),
        "orders": [record(one) for one in found],
    }
    print(json.dumps(told, indent=2, allow_nan=False))


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"session must be a date, YYYY-MM-DD, was {text}") from None
