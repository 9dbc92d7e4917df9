"""`tercet bench orders`: the naive ways go wrong where the gateway does not."""

from benchmarks import order_paths
from benchmarks.crashes.faults import LOST


def test_the_plan_is_the_same_for_the_same_seed_and_holds_kills_and_bad_answers() -> None:
    cases = order_paths.plan(300, seed=1)
    assert cases == order_paths.plan(300, seed=1) != order_paths.plan(300, seed=2)
    assert all(case.ends for case in cases)
    hit = {str({k: v for k, v in f.items() if k not in ("method", "path", "nth")})
           for case in cases for f in case.faults}  # fmt: skip
    assert hit == {str(fault) for fault in LOST}


def test_naive_ways_double_and_lose_orders_where_the_gateway_does_neither() -> None:
    found = order_paths.run(decisions=3, seed=1).figures
    assert found["gateway_wrong"] == 0 and found["gateway_failed"] == 0
    assert found["gateway_kills"] == found["submit_then_persist_kills"] > 0
    naive = ("submit_then_persist_duplicated", "error_is_rejection_misbooked")
    assert all(found[name] for name in naive), found
