"""A compacted topic as a live table, on real brokers."""

from __future__ import annotations

import time

import pytest
from kafka import KafkaProducer

from consumers.client import Record
from consumers.kafka_client import KafkaConsumerClient
from consumers.metrics import Metrics
from consumers.tables import TableReader
from models.errors import InvalidEvent
from producers.connection import Connection
from producers.errors import CatchUpTimeout, TopicMissing
from producers.publisher import Message, Publisher
from producers.topics import Topics


class Table(dict[bytes, bytes]):
    """The simplest handler: the newest value of each key, tombstones deleted."""

    def __call__(self, record: Record) -> None:
        assert record.key is not None
        if record.value == b"bad":
            raise InvalidEvent("bad")
        if record.value is None:
            self.pop(record.key, None)
        else:
            self[record.key] = record.value


def test_a_table_holds_the_newest_values_whether_or_not_the_broker_compacts(
    broker: Connection, topics: Topics, publisher: Publisher, metrics: Metrics
) -> None:
    messages = [Message(topics.vectors, b"i%d" % (n % 50), b"%d" % n) for n in range(5_000)]
    publisher.publish([*messages, Message(topics.vectors, b"i0", None)])
    table, progress = Table(), list[tuple[int, int]]()
    reader = TableReader.open(broker, {topics.vectors: table}, metrics)
    assert reader.catch_up(30, lambda done, total: progress.append((done, total))) == 5_001
    assert table == {b"i%d" % n: b"%d" % (4_950 + n) for n in range(1, 50)}
    assert progress[-1] == (5_001, 5_001)
    assert metrics.registry.get_sample_value("strata_table_records_total", {"topic": topics.vectors}) == 5_001

    publisher.publish([Message(topics.vectors, b"i0", b"back"), Message(topics.vectors, b"i1", None)])
    while table.get(b"i0") != b"back" or b"i1" in table:
        reader.poll(0.1)
    reader.close()


def test_an_empty_table_is_caught_up_at_once(broker: Connection, topics: Topics, publisher: Publisher) -> None:
    reader = TableReader.open(broker, {topics.vectors: Table(), topics.layers: Table()})
    assert reader.catch_up(10) == 0
    reader.close()


def test_partitions_come_and_go_and_begin_anew(broker: Connection, topics: Topics, publisher: Publisher) -> None:
    publisher.publish([Message(topics.profiles, b"u%d" % n, b"x", n % 2) for n in range(10)])
    table = Table()
    reader = TableReader(KafkaConsumerClient(broker), {topics.profiles: table})
    assert reader.catch_up(10) == 0
    for number, users in ((0, {b"u0", b"u2", b"u4", b"u6", b"u8"}), (1, {b"u1", b"u3", b"u5", b"u7", b"u9"})):
        reader.add([(topics.profiles, number)])
        assert reader.catch_up(10) == 5
        assert set(table) == users
        reader.remove([(topics.profiles, number)])
        table.clear()
    reader.add([(topics.profiles, 0)])
    assert reader.catch_up(10) == 5
    reader.add([(topics.profiles, 1)])
    assert reader.catch_up(10) == 5
    assert len(table) == 10
    reader.close()


def test_a_partition_that_comes_later_is_read_from_a_moment_of_its_own(
    broker: Connection, topics: Topics, publisher: Publisher, request: pytest.FixtureRequest
) -> None:
    table = Table()
    reader = TableReader.open(broker, {topics.profiles: table}, numbers=[0], since_ms=int(time.time() * 1000))
    reader.catch_up(10)
    publisher.publish([Message(topics.profiles, b"early", b"x", 1)])
    time.sleep(0.02)
    since_ms = int(time.time() * 1000)
    publisher.publish([Message(topics.profiles, b"late", b"x", 1)])
    reader.remove([(topics.profiles, 0)])
    assert reader.poll() == 0
    reader.add([(topics.profiles, 1)], since_ms)
    reader.catch_up(10)
    if broker is request.getfixturevalue("tansu"):
        table.pop(b"early", None)  # it may not know where a moment lies, and says the beginning then
    assert set(table) == {b"late"}
    reader.close()


def test_a_record_that_cannot_be_used_is_counted_and_skipped(
    broker: Connection, topics: Topics, publisher: Publisher, metrics: Metrics
) -> None:
    publisher.publish([Message(topics.layers, b"tree", value) for value in (b"1", b"bad", b"2")])
    table = Table()
    reader = TableReader.open(broker, {topics.layers: table}, metrics)
    assert reader.catch_up(10) == 3
    assert table == {b"tree": b"2"}
    assert metrics.registry.get_sample_value("strata_table_record_errors_total", {"topic": topics.layers}) == 1
    reader.close()


def test_a_table_that_cannot_be_read_in_time_says_what_is_missing(
    broker: Connection, topics: Topics, publisher: Publisher
) -> None:
    publisher.publish([Message(topics.layers, b"tree", b"%d" % n) for n in range(5_000)])
    reader = TableReader.open(broker, {topics.layers: Table()})
    with pytest.raises(CatchUpTimeout, match=topics.layers):
        reader.catch_up(0)
    reader.close()


def test_a_missing_topic_is_told_by_name(broker: Connection, topics: Topics) -> None:
    with pytest.raises(TopicMissing, match=r"vectors.*strata topics create"):
        TableReader.open(broker, {topics.vectors: Table()})


@pytest.mark.kafka
def test_a_table_ends_although_transactions_leave_marks_at_the_end_of_the_log(
    kafka: Connection, topics: Topics
) -> None:
    """A commit mark takes an offset that no reader ever sees; an aborted record is not in the table."""
    topics.ensure(kafka)
    producer = KafkaProducer(**kafka.client("test"), transactional_id=topics.prefix)
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topics.layers, b"kept", b"tree")
    producer.commit_transaction()
    producer.begin_transaction()
    producer.send(topics.layers, b"aborted", b"tree")
    producer.flush()
    producer.abort_transaction()
    producer.close()
    table = Table()
    reader = TableReader.open(kafka, {topics.layers: table})
    assert reader.catch_up(10) == 1
    assert table == {b"tree": b"kept"}
    reader.close()


@pytest.mark.kafka
@pytest.mark.slow
def test_a_compacted_log_gives_the_same_table(kafka: Connection, topics: Topics) -> None:
    from kafka import KafkaAdminClient

    settings = {
        "cleanup.policy": "compact",
        "segment.ms": "1000",
        "min.cleanable.dirty.ratio": "0.01",
        "max.compaction.lag.ms": "1000",
    }
    admin = KafkaAdminClient(**kafka.client("test"))
    admin.create_topics({topics.vectors: {"num_partitions": 1, "replication_factor": 1, "configs": settings}})
    admin.wait_for_topics([topics.vectors])
    admin.close()
    publisher = Publisher(kafka)
    for round_number in range(60):
        publisher.publish([Message(topics.vectors, b"i%d" % n, b"%d" % round_number) for n in range(20)])
        table = Table()
        reader = TableReader.open(kafka, {topics.vectors: table})
        read = reader.catch_up(10)
        reader.close()
        assert table == {b"i%d" % n: b"%d" % round_number for n in range(20)}
        if read < 20 * (round_number + 1):
            break  # compacted, and still right
    else:
        pytest.fail("the broker did not compact")
    publisher.close()
