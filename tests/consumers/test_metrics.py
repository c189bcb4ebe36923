"""Metric names follow the conventions, whoever adds one."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest
from prometheus_client.metrics import MetricWrapperBase

from consumers.metrics import Metrics
from models.layer_lives import Churn

UNITS = (
    "seconds",
    "bytes",
    "ratio",
    "total",
    "tokens",
    "clicks",
    "nats",
    "users",
    "streams",
    "items",
    "offsets",
    "info",
    "ready",
    "error",
)


def every(metrics: Metrics) -> dict[str, MetricWrapperBase]:
    return {name: m for name, m in vars(metrics).items() if isinstance(m, MetricWrapperBase)}


def test_names_have_the_prefix_and_a_base_unit(metrics: Metrics) -> None:
    for metric in metrics.registry.collect():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        assert name.startswith("strata_")
        assert name.rsplit("_", 1)[-1] in UNITS or metric.type == "info", name
        assert not any(word in name for word in ("milli", "_ms", "percent", "_age"))


def test_total_stands_on_counters_and_nowhere_else(metrics: Metrics) -> None:
    for metric in metrics.registry.collect():
        assert not metric.name.endswith("_total")
        samples = [s.name for s in metric.samples if s.name.endswith("_total")]
        assert metric.type == "counter" or not samples


def test_every_metric_has_a_sentence(metrics: Metrics) -> None:
    for metric in metrics.registry.collect():
        assert metric.documentation.endswith("."), metric.name
        assert " " in metric.documentation


def test_no_user_and_no_item_is_a_label(metrics: Metrics) -> None:
    allowed = {"role", "kind", "topic", "partition", "stage", "encoded", "arm", "outlet", "layer", "level", "outcome"}
    allowed |= {"why", "bucket", "expert", "rule", "route", "status", "group"}
    for name, metric in every(metrics).items():
        assert set(metric._labelnames) <= allowed, name


@pytest.mark.parametrize(
    ("failures", "attempts"),
    [
        ("encoder_errors", "encoder_batches"), ("publish_failures", "publishes"), ("commit_failures", "commits"),
        ("dead_letters", "consumed"), ("table_errors", "table_records"), ("hits", "hit_attempts"),
        ("layer_changes", "layer_updates"), ("lists_empty", "lists"), ("aborts", "publishes"),
        ("lessons_left_out", "lessons"), ("lessons_failed", "clicks"),
        ("feed_dropped", "feed_pushed"),
        ("damped", "clicks"), ("clicks_erased", "clicks"), ("erasures_overdue", "erasures"),
        ("policy_load_failures", "policy_loads"),
        ("new_hits", "new_hit_attempts"), ("impression_clicks", "impressions"), ("lists_fatigued", "lists"),
        ("served_items", "offered_items"),
    ],
)  # fmt: skip
def test_a_failure_counter_stands_beside_its_attempts(metrics: Metrics, failures: str, attempts: str) -> None:
    assert {failures, attempts} <= every(metrics).keys()


def test_the_counters_of_a_role_that_starts_stand_at_0(metrics: Metrics) -> None:
    metrics.begin("updater")
    of_roles = [m for m in every(metrics).values() if m._type == "counter" and "role" in m._labelnames]
    assert len(of_roles) >= 10
    assert {s.value for m in of_roles for c in m.collect() for s in c.samples if s.name.endswith("_total")} == {0}
    assert [m._name for m in of_roles if not m._metrics] == []


def test_lag_has_seconds_only_while_there_is_lag(metrics: Metrics) -> None:
    where = {"role": "r", "topic": "clicks", "partition": "3"}

    def seconds() -> float | None:
        return metrics.registry.get_sample_value("strata_lag_seconds", where)

    metrics.lag("r", ("clicks", 3), 5, 0)
    assert (seconds() or 0) > 1e9
    metrics.lag("r", ("clicks", 3), 0, 0)
    assert seconds() == 0
    metrics.forget_lag("r", ("clicks", 3))
    metrics.forget_lag("r", ("clicks", 3))
    assert seconds() is None


def test_it_can_be_scraped(metrics: Metrics) -> None:
    metrics.of_layers({"3.5": 0.25}, {"3.5": Churn(0.02, 0.01)}, {"3.5": 1_500})
    text = generate_latest(metrics.registry).decode()
    assert 'strata_layer_size_ratio{layer="3.5"} 0.25' in text
    assert 'strata_layer_joined_ratio{layer="3.5"} 0.02' in text
    assert 'strata_layer_left_ratio{layer="3.5"} 0.01' in text
    assert 'strata_layer_since_timestamp_seconds{layer="3.5"} 1.5' in text
    assert 'strata_build_info{version="0"} 1.0' in text
