import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from risk.access.errors import NotAnswered, Reason
from risk.access.tokens import Role
from serving.routes import ROUTES

CHAMPION, CHALLENGER = "a" * 64, "b" * 64


def post(shop: Any, body: Any, **options: Any) -> Any:
    return shop.ask_once("POST", "/v1/allocations", body, **options)


def metric(shop: Any, start: str) -> float:
    lines = shop.ask_once("GET", "/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def test_an_answer_says_what_was_asked_of_whom(shop: Any, question: Any) -> None:
    reply = post(shop, question)
    answer = reply.json()
    assert reply.status == 200
    assert answer["as_of"] == question["as_of"]
    assert answer["model"]["sha256"] == CHAMPION
    assert abs(sum(answer["weights"].values()) - 1.0) < 1e-9
    assert reply.headers["decision-status"] == "submittable"
    assert reply.headers["cache-control"] == "no-store"
    assert (shop.backend.asked[0].account, shop.backend.asked[0].universe) == ("fund-1", None)


def test_a_decision_is_found_again_with_its_explanation(shop: Any, question: Any) -> None:
    answer = post(shop, question).json()
    found = shop.ask_once("GET", f"/v1/allocations/{answer['decision_id']}", role=Role.read).json()
    assert {key: found[key] for key in answer} == answer
    assert found["explanation"] == {"agents": {"balanced": {"stage": "rule"}}}
    assert (found["status"], found["superseded_by"], found["shadows"]) == ("submittable", None, [])


def test_a_second_question_supersedes_the_first_and_says_so(shop: Any, question: Any) -> None:
    first = post(shop, question).json()
    question["account"]["cash"] = 7
    second = post(shop, question).json()
    assert second["supersedes"] == first["decision_id"] != second["decision_id"]
    found = shop.ask_once("GET", f"/v1/allocations/{first['decision_id']}").json()
    assert (found["status"], found["superseded_by"]) == ("superseded", second["decision_id"])
    question["account"]["cash"] = "1000.5"
    again = post(shop, question)
    assert (again.json(), again.headers["decision-status"]) == (first, "superseded")


def test_what_nobody_can_execute_is_called_so(shop: Any, question: Any) -> None:
    assert post(shop, {}).headers["decision-status"] == "advice"
    shop.backend.change = lambda opinion: replace(opinion, expires_at="2022-12-29T15:30:00+00:00")
    assert post(shop, question).headers["decision-status"] == "expired"


def test_the_last_session_by_its_date_is_the_same_question(shop: Any, question: Any) -> None:
    by_date = post(shop, question).json()
    del question["as_of"]
    assert post(shop, question).json() == by_date


def test_sixty_four_callers_with_one_question_get_one_answer(shop: Any, question: Any) -> None:
    async def crowd() -> list[Any]:
        work = [shop.ask("POST", "/v1/allocations", question) for _ in range(64)]
        return await asyncio.gather(*work)

    replies = asyncio.run(crowd())
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1
    assert metric(shop, "tercet_decisions_total") == 1.0


def test_a_caller_who_goes_away_harms_neither_the_store_nor_the_next_one(
    shop: Any, question: Any
) -> None:
    async def hang_up(after_s: float) -> None:
        task = asyncio.create_task(shop.ask("POST", "/v1/allocations", question))
        await asyncio.sleep(after_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for after_s in (0.0, 0.0001, 0.0003, 0.001, 0.003):
        asyncio.run(hang_up(after_s))
    reply = post(shop, question)
    assert reply.status == 200
    assert reply.json()["supersedes"] is None


@pytest.mark.parametrize("reason", [r for r in Reason if r.status == 503], ids=lambda r: r.name)
def test_what_is_unavailable_is_a_503_with_its_reason_and_a_time_to_come_back(
    shop: Any, question: Any, reason: Reason
) -> None:
    shop.backend.problem = NotAnswered(reason, "the data end with 2022-12-28")
    reply = post(shop, question)
    assert (reply.status, reply.code) == (503, reason.value[1])
    assert int(reply.headers["retry-after"]) >= 1
    assert reply.json()["error"]["reason"] == "the data end with 2022-12-28"
    assert metric(shop, f'tercet_unavailable_total{{reason="{reason.value[1]}"}}') == 1.0


def test_a_slow_replica_is_not_waited_for(open_shop: Callable[..., Any], question: Any) -> None:
    shop = open_shop(request_timeout_s=0.05)
    shop.backend.delay_s = 5.0
    reply = post(shop, question)
    assert (reply.status, reply.code) == (503, "too_slow")
    assert reply.headers["retry-after"]


def test_an_unexpected_failure_is_logged_and_tells_the_caller_nothing(
    shop: Any, question: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shop.backend.problem = RuntimeError("password hunter2 at /secret/path")
    with caplog.at_level(logging.ERROR):
        reply = post(shop, question)
    assert (reply.status, reply.code) == (500, "internal")
    assert b"hunter2" not in reply.body and b"RuntimeError" not in reply.body
    assert "hunter2" in caplog.text
    assert metric(shop, 'tercet_requests_total{code="500",route="/v1/allocations"}') == 1.0


@pytest.mark.parametrize(
    "change",
    [
        lambda o: replace(o, weights={**o.weights, "CASH": float("nan")}),
        lambda o: replace(o, weights={"AAPL": 0.5, "CASH": 0.4}),
        lambda o: replace(o, market={"volatility": float("inf")}),
        lambda o: replace(o, explanation={"score": float("nan")}),
        lambda o: replace(o, as_of="yesterday"),
    ],
    ids=["NaN weight", "not a whole", "infinite word", "NaN explanation", "no date"],
)
def test_an_opinion_that_is_no_allocation_is_never_given_out(
    shop: Any, question: Any, change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shop.backend.change = change
    reply = post(shop, question)
    assert caplog.records
    assert (reply.status, reply.code) == (500, "internal")
    shop.backend.change = lambda opinion: opinion
    assert post(shop, question).status == 200


def test_a_wrong_question_is_told_where_it_is_wrong(shop: Any) -> None:
    reply = post(shop, b'{"account": {"id": "a", "cash": NaN, "positions": {}}}')
    assert (reply.status, reply.code) == (400, "bad_request")
    reply = post(shop, {"account": {"id": "a", "cash": "x", "positions": {}}})
    assert (reply.status, reply.code) == (422, "invalid")
    assert "account.cash" in reply.json()["error"]["reason"]


def shadows_of(shop: Any, question: Any) -> tuple[Any, list[Any]]:
    async def asked() -> tuple[Any, list[Any]]:
        reply = await shop.ask("POST", "/v1/allocations", question)
        for _ in range(100):
            await asyncio.sleep(0.01)
            found = await shop.log.shadows(reply.json()["decision_id"])
            if found:
                break
        return reply, found

    return asyncio.run(asked())


def test_a_challenger_in_shadow_is_recorded_and_never_served(shop: Any, question: Any) -> None:
    shop.backend.shadow_sha256 = CHALLENGER
    reply, shadows = shadows_of(shop, question)
    assert reply.json()["model"]["sha256"] == CHAMPION
    assert [shadow["model_sha256"] for shadow in shadows] == [CHALLENGER]
    assert abs(shadows[0]["distance"] - 0.4) < 1e-9
    assert metric(shop, "tercet_shadow_distance_count") == 1.0
    post(shop, question)  # a repeated question is no new decision: nothing is asked
    assert metric(shop, "tercet_shadow_distance_count") == 1.0


def test_a_challenger_that_falls_over_is_counted_and_hurts_nobody(
    open_shop: Callable[..., Any], question: Any
) -> None:
    shop = open_shop(max_shadows=1)
    shop.backend.shadow_sha256 = "broken"

    async def asked() -> Any:
        reply = await shop.ask("POST", "/v1/allocations", question)
        await asyncio.sleep(0.05)
        return reply

    assert asyncio.run(asked()).status == 200
    assert metric(shop, "tercet_shadows_lost_total") == 1.0


def test_readiness_is_that_of_the_models_and_health_is_that_of_the_process(shop: Any) -> None:
    shop.backend.why_unready = "there is no champion"
    reply = shop.ask_once("GET", "/readyz", role=None)
    assert (reply.status, reply.code) == (503, "not_ready")
    assert reply.json()["error"]["reason"] == "there is no champion"
    assert reply.headers["retry-after"]
    assert shop.ask_once("GET", "/healthz", role=None).json() == {"status": "ok"}


def test_a_ready_service_says_so_to_everybody(shop: Any) -> None:
    assert shop.ask_once("GET", "/readyz", role=None).json() == {"status": "ready"}


def test_an_admin_can_have_registry_and_data_looked_at_now(shop: Any) -> None:
    assert shop.ask_once("POST", "/v1/refresh", b"").json()["models"][0]["role"] == "champion"
    assert shop.backend.refreshed == 1


def test_metrics_are_given_also_while_the_models_are_away(shop: Any) -> None:
    shop.backend.problem = NotAnswered(Reason.replica_failed, "gone")
    assert shop.ask_once("GET", "/metrics").status == 200


def test_a_metric_has_no_label_of_the_callers_making(shop: Any) -> None:
    for path in ("/etc/passwd", "/v1/allocations/" + "e" * 64, "/x" * 100):
        shop.ask_once("GET", path)
    text = shop.ask_once("GET", "/metrics").body.decode()
    assert 'route="other"' in text and "passwd" not in text and "eeee" not in text


def test_the_description_names_each_public_route_with_the_role_it_needs(shop: Any) -> None:
    document = json.loads(shop.ask_once("GET", "/openapi.json").body)
    shown = {
        (method.upper(), path): operation.get("security")
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    expected = {
        (route.method, route.path): [{"bearer": [route.role.name]}] if route.role else None
        for route in ROUTES
        if not route.browser
    }
    assert shown == expected
    used = json.dumps(document["paths"]) + json.dumps(document["components"])
    for name in document["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in used


def test_the_page_asks_for_nothing_on_another_server(shop: Any) -> None:
    page = shop.ask_once("GET", "/docs").body.decode()
    assert "//" not in page.replace("<!doctype html>", "")
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert f"docs/{name}" in page
        assert shop.ask_once("GET", f"/docs/{name}").status == 200
    assert shop.ask_once("GET", "/docs/core.py").status == 404
