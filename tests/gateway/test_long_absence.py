"""A gateway that was away for longer than anything is asked back for."""

from typing import Any

import pytest

from risk.gateway.records import OrderState
from risk.gateway.stored import DecisionState
from risk.gateway.submission import Mode

TWELVE_DAYS_S = 12 * 24 * 3_600


@pytest.mark.parametrize("sent", [True, False])
def test_what_happened_before_days_of_absence_is_booked_and_comes_to_its_end(
    venue: Any, sent: bool
) -> None:
    answer = venue.gateway.submit(venue.decision(S000="0.05"), Mode.paper)
    if sent:
        venue.gateway.step()  # filled at once, and not looked at any more
    venue.advance(TWELVE_DAYS_S)
    assert venue.gateway.recover().clean
    for _ in range(2):
        venue.gateway.step()
    done = venue.gateway.answer(answer.decision_id)
    assert done.state is DecisionState.done
    (order,) = done.orders
    assert order.state is (OrderState.filled if sent else OrderState.dropped)
    assert order.filled == (order.quantity if sent else 0)
    venue.require_equal_books()
    assert len(venue.posted()) == sent
