"""An order of ours that somebody else has put: a second gateway with a ledger of its own."""

from typing import Any

import pytest

from risk.gateway.records import OrderState
from risk.gateway.submission import Mode


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("more", [0, 1])
def test_an_order_that_another_gateway_has_put_is_followed_here_too(
    venue: Any, dropped: bool, more: int
) -> None:
    answer = venue.gateway.submit(venue.decision(S000="0.05"), Mode.paper)
    (order,) = answer.orders
    if dropped:
        venue.gateway.kill("a person wants it", "operator")
    venue.admin(
        "POST",
        "/orders",
        {
            "symbol": order.symbol,
            "qty": format(order.quantity + more, "f"),
            "side": "buy",
            "type": "limit",
            "limit_price": format(order.limit_price, "f"),
            "time_in_force": "day",
            "client_order_id": order.client_order_id,
        },
    )
    venue.run(steps=2)
    (found,) = venue.gateway.answer(answer.decision_id).orders
    assert found.state is OrderState.filled and found.filled == order.quantity + more
    assert venue.posted() == []  # known to be there, it is not sent from here
    venue.require_equal_books()
    assert venue.ledger.latch().armed is (not dropped and not more)
