from prometheus_client.parser import text_string_to_metric_families

from serving.metrics import Metrics


def values(text: bytes) -> dict[str, float]:
    return {
        sample.name + str(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_each_event_is_counted_under_its_labels() -> None:
    metrics = Metrics()
    metrics.answered("/v1/models", "200", 0.003)
    metrics.answered("/v1/models", "503", 0.5)
    metrics.decided("a" * 64)
    metrics.unavailable("stale_data")
    metrics.shadowed(0.25)
    metrics.aged(2)
    found = values(metrics.text([]))
    assert found["tercet_requests_total[('code', '503'), ('route', '/v1/models')]"] == 1.0
    assert found["tercet_request_seconds_sum[('route', '/v1/models')]"] == 0.503
    assert found[f"tercet_decisions_total[('model_sha256', '{'a' * 64}')]"] == 1.0
    assert found["tercet_unavailable_total[('reason', 'stale_data')]"] == 1.0
    assert found["tercet_shadow_distance_sum[]"] == 0.25
    assert found["tercet_data_age_sessions[]"] == 2.0


def test_a_model_that_is_gone_is_shown_no_longer() -> None:
    metrics = Metrics()
    one = {"role": "champion", "sha256": "a" * 64, "wanted": "a" * 64, "problem": None}
    two = {"role": "champion", "sha256": None, "wanted": "b" * 64, "problem": "it is damaged"}
    label = "tercet_model[('role', 'champion'), ('sha256', '{}')]"
    assert values(metrics.text([one]))[label.format("a" * 64)] == 1.0
    shown = values(metrics.text([two]))
    assert shown[label.format("b" * 64)] == 0.0
    assert label.format("a" * 64) not in shown


def test_two_services_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.aged(5)
    assert values(other.text([]))["tercet_data_age_sessions[]"] == 0.0
