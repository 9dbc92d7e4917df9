"""Whatever is sent, the exchange answers, and never with an error of its own."""

import json
from typing import Any

import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

WORDS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["0001-01-01", "9999-12-31", "2023-06-01", "-1", "1e400", "NaN", "S000", "all"]
    ),
    st.integers().map(str),
)
NAMES = st.sampled_from(
    [
        "after",
        "until",
        "date",
        "start",
        "end",
        "limit",
        "page_size",
        "page_token",
        "status",
        "qty",
        "direction",
        "symbols",
        "side",
        "nested",
        "client_order_id",
        "percentage",
        "cancel_orders",
    ]
)
VALUES = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        "symbol",
        "qty",
        "side",
        "type",
        "time_in_force",
        "limit_price",
        "stop_price",
        "order_class",
        "take_profit",
        "stop_loss",
        "client_order_id",
        "no_shorting",
        "now",
        "advance_s",
        "to",
        "kind",
        "path",
        "ratio",
        "amount",
        "per_share",
        "share_per_step",
        "factor",
        "tradable",
    ]
)
GOOD = {"symbol": "S000", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
PATHS = st.one_of(
    st.sampled_from(
        [
            "/v2/account",
            "/v2/account/configurations",
            "/v2/account/portfolio/history",
            "/v2/clock",
            "/v2/account/activities",
            "/v2/calendar",
            "/v2/assets",
            "/v2/orders",
            "/v2/positions",
            "/v2/orders:by_client_order_id",
            "/v2/positions/S000",
            "/v2/stocks/quotes/latest",
            "/v2/stocks/trades/latest",
            "/v2/stocks/snapshots",
            "/admin/clock",
            "/admin/splits",
            "/admin/dividends",
            "/admin/cash",
            "/admin/shares",
            "/admin/quotes/S000",
            "/admin/assets/S000",
            "/admin/orders",
            "/admin/terms",
            "/admin/account",
        ]
    ),
    st.builds(
        lambda place, name: f"{place}/{requests.utils.quote(name, safe='')}",
        st.sampled_from(["/v2/orders", "/v2/assets", "/v2/positions", "/v2/account/activities"]),
        st.text(min_size=1, max_size=12),
    ),
)
BODIES = st.one_of(
    st.dictionaries(FIELDS, VALUES, max_size=5).map(lambda changes: GOOD | changes),
    st.dictionaries(FIELDS, VALUES, max_size=5),
    VALUES,
)


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]),
    path=PATHS,
    query=st.dictionaries(NAMES, WORDS, max_size=3),
    body=BODIES,
)
def test_no_request_is_an_error_of_ours(
    venue, method: str, path: str, query: dict[str, str], body: Any
):
    headers = venue.trading_client()._get_auth_headers() | {"content-type": "application/json"}
    data = None if method == "GET" else json.dumps(body).encode()
    answer = requests.request(
        method, f"{venue.url}{path}", params=query, data=data, headers=headers, timeout=20
    )
    assert answer.status_code < 500, answer.text
    if answer.status_code == 422:
        assert answer.json()["message"]
