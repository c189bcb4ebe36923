"""Delivery on real brokers: what a stop, a hand-over and a kill leave behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from counting import Worker, group_config
from reading import read

from consumers.kafka_client import KafkaConsumerClient
from producers.connection import Connection
from producers.errors import LogRolledBack, TopicMissing
from producers.publisher import Message, Publisher
from producers.topics import Topics

COUNTING = Path(__file__).parent.parent / "counting.py"


def clicks(topics: Topics, number: int, users: int = 20) -> list[Message]:
    return [Message(topics.clicks, b"u%d" % (i % users), b"%d" % i) for i in range(number)]


def expected(messages: list[Message]) -> dict[bytes, int]:
    return dict(Counter(m.key for m in messages if m.key))


def lists(connection: Connection, topics: Topics) -> dict[bytes, int]:
    """What a reader holds that keeps the highest source offset of a user: his count."""
    best: dict[bytes, dict[str, int]] = {}
    for record in read(connection, topics.recommendations):
        assert record.key is not None
        assert record.value is not None
        value = json.loads(record.value)
        if value["applied"] > best.get(record.key, {"applied": -1})["applied"]:
            best[record.key] = value
    return {user: value["count"] for user, value in best.items()}


def wait_for(condition: Callable[[], bool], timeout_s: float = 90) -> None:
    # seconds by themselves; once, beside other tests on a slow machine, more than 45 s
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.05)


def committed(connection: Connection, topics: Topics, group: str) -> int:
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(**connection.client("test"))
    try:
        offsets = admin.list_group_offsets([group])[group]
        return sum(o.offset for tp, o in offsets.items() if tp.topic == topics.clicks and o.offset > 0)
    finally:
        admin.close()


@pytest.fixture(params=["at-least-once", "exactly-once"])
def mode(request: pytest.FixtureRequest) -> str:
    """Each delivery in turn; the second where the broker can."""
    name: str = request.param
    if name == "exactly-once":
        request.getfixturevalue("transactional")
    return name


def test_a_restart_goes_on_where_the_last_run_committed(
    broker: Connection, topics: Topics, publisher: Publisher, mode: str
) -> None:
    first, second = clicks(topics, 300), clicks(topics, 200)
    publisher.publish(first)
    worker = Worker(broker, topics, topics.prefix, exactly_once=mode == "exactly-once").start()
    wait_for(lambda: lists(broker, topics) == expected(first))
    worker.join()

    publisher.publish(second)
    worker = Worker(broker, topics, topics.prefix, exactly_once=mode == "exactly-once").start()
    wait_for(lambda: lists(broker, topics) == expected(first + second))
    worker.join()
    assert worker.stage.skipped == 0  # a clean stop leaves nothing to do again
    assert len(read(broker, topics.recommendations)) == 500
    assert len(worker.stage.threads) == 1


def test_a_second_worker_takes_over_half_and_gives_it_back_without_a_click_lost_or_counted_twice(
    broker: Connection, topics: Topics, publisher: Publisher, mode: str
) -> None:
    sent: list[Message] = []

    def send(number: int) -> None:
        messages = clicks(topics, number)
        publisher.publish(messages)
        sent.extend(messages)

    send(100)
    one = Worker(broker, topics, topics.prefix, exactly_once=mode == "exactly-once").start()
    wait_for(lambda: len(one.stage.profiles) == 2)
    two = Worker(broker, topics, topics.prefix, exactly_once=mode == "exactly-once").start()
    deadline = time.monotonic() + 90
    while not (len(one.stage.profiles) == len(two.stage.profiles) == 1):
        assert time.monotonic() < deadline
        send(50)
        time.sleep(0.1)
    wait_for(lambda: lists(broker, topics) == expected(sent))
    two.join()
    send(100)
    wait_for(lambda: lists(broker, topics) == expected(sent))
    one.join()
    profiles = {r.key: json.loads(r.value or b"")["count"] for r in read(broker, topics.profiles)}
    assert profiles == expected(sent)


def test_killed_between_acknowledgements_and_commit_nothing_is_lost_and_nothing_counts_twice(
    broker: Connection, topics: Topics, publisher: Publisher, mode: str
) -> None:
    messages = clicks(topics, 600)
    publisher.publish(messages)
    arguments = [sys.executable, str(COUNTING), broker.bootstrap, topics.prefix, topics.prefix + "group", mode]
    for kill_after in ("2", "3"):
        process = subprocess.Popen([*arguments, kill_after], start_new_session=True)
        try:
            assert process.wait(60) == -signal.SIGKILL
        finally:
            process.kill()
    assert committed(broker, topics, topics.prefix + "group") < len(messages)

    process = subprocess.Popen(arguments, start_new_session=True)
    try:
        wait_for(lambda: lists(broker, topics) == expected(messages))
        wait_for(lambda: committed(broker, topics, topics.prefix + "group") == len(messages))
        process.terminate()
        assert process.wait(40) == 0
    finally:
        process.kill()
    profiles = {r.key: json.loads(r.value or b"") for r in read(broker, topics.profiles)}
    assert {user: profile["count"] for user, profile in profiles.items()} == expected(messages)
    # once for each source offset: what was done again was skipped, not published a second time
    sources = [(r.partition, json.loads(r.value or b"")["applied"]) for r in read(broker, topics.recommendations)]
    assert sorted(sources) == sorted(set(sources))
    assert len(sources) == len(messages)


def test_an_offset_beyond_the_end_of_the_log_stops_the_worker(
    broker: Connection, topics: Topics, publisher: Publisher
) -> None:
    """A broker that lost its tail, or a new one: the offsets that the group committed are not there."""
    from kafka import KafkaAdminClient, OffsetAndMetadata, TopicPartition

    publisher.publish(clicks(topics, 10))
    admin = KafkaAdminClient(**broker.client("test"))
    where = [TopicPartition(topics.clicks, number) for number in range(2)]
    admin.alter_group_offsets(topics.prefix, {tp: OffsetAndMetadata(1_000, "", -1) for tp in where})
    admin.close()
    worker = Worker(broker, topics, topics.prefix).start()
    worker.thread.join(45)
    assert isinstance(worker.error, LogRolledBack)
    assert "rebuild" in str(worker.error)
    assert read(broker, topics.recommendations) == []


def test_a_profile_beyond_the_end_of_the_log_stops_the_worker(
    broker: Connection, topics: Topics, publisher: Publisher
) -> None:
    publisher.publish(clicks(topics, 10))
    publisher.publish([Message(topics.profiles, b"u1", b'{"applied": 5000, "count": 7}', 0)])
    worker = Worker(broker, topics, topics.prefix).start()
    worker.thread.join(45)
    assert isinstance(worker.error, LogRolledBack)
    assert "5001" in str(worker.error)


def test_latest_begins_at_the_end_and_earliest_at_the_beginning(
    broker: Connection, topics: Topics, publisher: Publisher
) -> None:
    from consumers.client import GroupConfig

    publisher.publish(clicks(topics, 100))
    read_by: dict[str, list[bytes | None]] = {}
    for policy in ("latest", "earliest"):
        group = GroupConfig(group=topics.prefix + policy, first_start=policy)  # type: ignore[arg-type]
        consumer = KafkaConsumerClient(broker, group)
        consumer.subscribe([topics.clicks])
        got = read_by[policy] = []
        deadline = time.monotonic() + 90
        started = False
        while time.monotonic() < deadline and b"end" not in got:
            got += [r.value for r in consumer.poll(0.1, 1_000)]
            for event in consumer.rebalances():
                assert event.kind == "assigned" or not event.partitions
                for partition in event.partitions if event.kind == "assigned" else ():
                    consumer.start(partition)
                    started = True
            if started and policy == "latest":
                publisher.publish([Message(topics.clicks, b"u1", b"end")])
                started = False
        consumer.close()
    assert read_by["latest"] == [b"end"]
    assert len(read_by["earliest"]) >= 100


def test_a_topic_that_nobody_created_is_told_before_the_group_is_joined(broker: Connection, topics: Topics) -> None:
    consumer = KafkaConsumerClient(broker, group_config(topics.prefix))
    with pytest.raises(TopicMissing, match=topics.clicks):
        consumer.subscribe([topics.clicks])
    consumer.close()
