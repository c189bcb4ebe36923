"""Brokers for the tests: the embedded one always, Apache Kafka where KAFKA_HOME names a distribution."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

sys.path.insert(0, str(Path(__file__).parent))

from apache_kafka import ApacheKafka, home

from consumers.metrics import Metrics
from ops.broker import EmbeddedBroker
from producers.connection import Connection
from producers.publisher import Publisher
from producers.topics import Topics

_number = itertools.count()


@pytest.fixture(scope="session")
def tansu() -> Iterator[Connection]:
    """The embedded broker, one for the whole session."""
    with EmbeddedBroker() as broker:
        yield broker.connection


@pytest.fixture(scope="session")
def kafka() -> Iterator[Connection]:
    """Apache Kafka, one node for the whole session."""
    if home() is None:
        pytest.skip("Apache Kafka: KAFKA_HOME names no distribution")
    node = ApacheKafka()
    try:
        node.start()
        yield node.connection
    finally:
        node.close()


@pytest.fixture(
    params=[pytest.param("tansu", marks=pytest.mark.broker), pytest.param("kafka", marks=pytest.mark.kafka)]
)
def broker(request: pytest.FixtureRequest) -> Connection:
    """Each broker in turn: what holds on one must hold on the other."""
    connection: Connection = request.getfixturevalue(request.param)
    return connection


@pytest.fixture
def topics() -> Topics:
    """Names that no other test uses; not yet created."""
    return Topics(prefix=f"t{next(_number)}.", partitions=2, item_partitions=2)


@pytest.fixture
def publisher(broker: Connection, topics: Topics) -> Iterator[Publisher]:
    """A publisher on the broker, with the topics created."""
    topics.ensure(broker)
    publisher = Publisher(broker, limits=topics.limits)
    yield publisher
    publisher.close()


@pytest.fixture
def metrics() -> Metrics:
    """Metrics on a registry of the test's own."""
    return Metrics(CollectorRegistry())
