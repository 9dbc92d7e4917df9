"""The id under which an order is known to us and to the broker: the fence against doing it twice.

It depends on what the order is for, and on nothing that could differ between two attempts: no
quantity, price, time or host.
"""

import base64
import hashlib
import json

from risk.gateway.records import Side

PREFIX = "tercet-"  # tells ours from a stranger's in the broker's own lists
LENGTH = 36  # characters; 29 of them are base 32, which is 145 bits of a sha256


def client_order_id(account: str, decision_id: str, symbol: str, side: Side, slice: int) -> str:
    """Return the id of one leg of a decision; a leg is a side and the number of a slice.

    Args:
        account: the broker's id of the account.
        decision_id: of the decision.
        symbol: of the name.
        side: buy or sell.
        slice: 0 for the first, or only, slice.

    Returns:
        36 characters of [a-z0-9-].

    Raises:
        ValueError: if a part is empty, or the slice is negative or no integer.

    >>> client_order_id("PA1", "d" * 64, "SPY", Side.buy, 0)
    'tercet-m2c6d6lgjfr3wekzjpeq2xebumqt6'
    """
    for name, value in (("account", account), ("decision_id", decision_id), ("symbol", symbol)):
        if not value:
            raise ValueError(f"an order's {name} must not be empty")
    if type(slice) is not int or slice < 0:
        raise ValueError(f"a slice is numbered from 0 on, was {slice!r}")
    # A JSON list keeps the parts apart: ("A", "BC") and ("AB", "C") are different orders.
    parts = json.dumps([account, decision_id, symbol, side.value, slice], separators=(",", ":"))
    digest = base64.b32encode(hashlib.sha256(parts.encode()).digest()).decode().lower()
    return PREFIX + digest[: LENGTH - len(PREFIX)]
