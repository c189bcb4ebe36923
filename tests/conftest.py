"""Brokers for the tests.

The embedded one always, Apache Kafka where KAFKA_HOME names a distribution, and the one that STRATA_TEST_BOOTSTRAP
names, if it does: topics of a prefix of their own are left there.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import uuid
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
_RUN = uuid.uuid4().hex[:6]  # an external cluster remembers earlier runs


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


@pytest.fixture(scope="session")
def external() -> Connection:
    """A cluster of somebody else's."""
    return Connection(bootstrap=os.environ["STRATA_TEST_BOOTSTRAP"])


BROKERS = [pytest.param("tansu", marks=pytest.mark.broker), pytest.param("kafka", marks=pytest.mark.kafka)]
if os.environ.get("STRATA_TEST_BOOTSTRAP"):
    BROKERS.append(pytest.param("external", marks=pytest.mark.broker))


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Connection:
    """Each broker in turn: what holds on one must hold on the other."""
    connection: Connection = request.getfixturevalue(request.param)
    return connection


@pytest.fixture
def topics() -> Topics:
    """Names that no other test uses; not yet created."""
    return Topics(prefix=f"t{next(_number)}.{_RUN}.", partitions=2, item_partitions=2)


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


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that a test runs configures logging, to a stream that is closed with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def pytest_sessionfinish() -> None:
    """Wait for the server that forked the workers of the fault tests: nothing is left behind when pytest ends."""
    forkserver = sys.modules.get("multiprocessing.forkserver")
    if forkserver is not None:
        forkserver._forkserver._stop()
