"""Which delivery a worker runs with, on each broker."""

from __future__ import annotations

import logging

import pytest

from consumers.metrics import Metrics
from ops.delivery import exactly_once
from ops.settings import Settings
from producers.connection import Connection
from producers.errors import TransactionsUnsupported
from producers.topics import Topics


def settings(topics: Topics, delivery: str) -> Settings:
    return Settings(topic_prefix=topics.prefix, delivery=delivery)  # type: ignore[arg-type]


def mode(metrics: Metrics) -> str:
    (family,) = [family for family in metrics.registry.collect() if family.name == "strata_delivery"]
    return family.samples[0].labels["mode"]


@pytest.mark.broker
def test_a_broker_that_shows_what_was_aborted_is_found_out_and_told(
    tansu: Connection, topics: Topics, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    topics.ensure(tansu)
    with caplog.at_level(logging.INFO):
        assert not exactly_once(settings(topics, "auto"), tansu, metrics)
    assert "delivery at-least-once: readers of committed records are shown an aborted one" in caplog.text
    assert mode(metrics) == "at-least-once"


@pytest.mark.broker
def test_exactly_once_on_a_broker_that_cannot_is_an_error_that_says_what_to_do(
    tansu: Connection, topics: Topics, metrics: Metrics
) -> None:
    topics.ensure(tansu)
    with pytest.raises(TransactionsUnsupported, match="STRATA_DELIVERY=auto"):
        exactly_once(settings(topics, "exactly-once"), tansu, metrics)


@pytest.mark.kafka
@pytest.mark.parametrize("wanted", ["auto", "exactly-once"])
def test_where_transactions_hold_they_are_used(
    kafka: Connection, topics: Topics, metrics: Metrics, wanted: str
) -> None:
    topics.ensure(kafka)
    assert exactly_once(settings(topics, wanted), kafka, metrics)
    assert mode(metrics) == "exactly-once"


@pytest.mark.kafka
def test_at_least_once_can_be_chosen_where_transactions_hold(
    kafka: Connection, topics: Topics, metrics: Metrics
) -> None:
    assert not exactly_once(settings(topics, "at-least-once"), kafka, metrics)  # nor does it look
    assert mode(metrics) == "at-least-once"
