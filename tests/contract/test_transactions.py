"""Transactions on every broker that has them: all or nothing, and never by somebody who has been replaced."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

import pytest
from reading import read

from consumers.client import GroupConfig, Partition
from consumers.delivery import ExactlyOnce
from consumers.kafka_client import KafkaConsumerClient
from consumers.stage import Work
from consumers.tables import TableReader
from producers import failpoints
from producers.connection import Connection
from producers.errors import CatchUpTimeout, PublishFailed, TransactionAborted
from producers.publisher import Message, Publisher
from producers.topics import Topics
from producers.transactions import TransactionalPublisher


@pytest.fixture
def transaction(transactional: Connection, topics: Topics) -> Iterator[TransactionalPublisher]:
    publisher = TransactionalPublisher(transactional, timeout_s=5)
    publisher.take(f"{topics.prefix}0.1")
    yield publisher
    failpoints.arm(None)
    publisher.close()


def profile(topics: Topics, value: bytes, partition: int = 0) -> Message:
    return Message(topics.profiles, b"ann", value, partition)


def values(connection: Connection, topic: str) -> list[bytes | None]:
    return [record.value for record in read(connection, topic)]


def test_a_transaction_is_visible_as_a_whole(
    transactional: Connection, topics: Topics, transaction: TransactionalPublisher
) -> None:
    seen: list[int] = []

    def look(point: str) -> None:
        if point == "before-commit":
            with pytest.raises(CatchUpTimeout):  # a reader waits for what may still become visible, and is shown none
                read(transactional, topics.profiles, 0.5)
            seen.append(0)

    failpoints.arm(look)
    transaction.publish([profile(topics, b"1"), profile(topics, b"2", 1)], {})
    failpoints.arm(None)
    assert seen == [0]
    assert sorted(values(transactional, topics.profiles)) == [b"1", b"2"]


def test_a_table_waits_for_an_open_transaction_and_is_then_complete(
    transactional: Connection, topics: Topics, transaction: TransactionalPublisher
) -> None:
    """What is decided, but not yet marked in the log, must not be missing from a restored profile."""
    reached, go_on = threading.Event(), threading.Event()

    def hold(point: str) -> None:
        if point == "before-commit":
            reached.set()
            go_on.wait(4)

    failpoints.arm(hold)
    thread = threading.Thread(target=transaction.publish, args=([profile(topics, b"late")], {}))
    thread.start()
    assert reached.wait(10)
    threading.Timer(0.5, go_on.set).start()
    assert values(transactional, topics.profiles) == [b"late"]
    thread.join()


def test_a_producer_with_the_same_id_ends_what_its_predecessor_left_open_and_fences_it(
    transactional: Connection, topics: Topics, transaction: TransactionalPublisher
) -> None:
    second = TransactionalPublisher(transactional, timeout_s=5)

    def take_over(point: str) -> None:
        if point == "before-commit":
            failpoints.arm(None)
            second.take(f"{topics.prefix}0.1")
            second.publish([profile(topics, b"second")], {})

    failpoints.arm(take_over)
    with pytest.raises(TransactionAborted):
        transaction.publish([profile(topics, b"first")], {})
    assert values(transactional, topics.profiles) == [b"second"]
    second.close()


def test_offsets_of_an_old_generation_take_the_messages_down_with_them(
    transactional: Connection, topics: Topics, transaction: TransactionalPublisher
) -> None:
    """KIP-447: a worker whose partitions were given away cannot commit, whatever its transactional id."""
    publisher = Publisher(transactional)
    publisher.publish([Message(topics.clicks, b"ann", b"x", 0)])
    publisher.close()
    group = GroupConfig(group=topics.prefix, session_timeout_s=2, heartbeat_s=0.4)
    old = KafkaConsumerClient(transactional, group)
    old.subscribe([topics.clicks])
    join(old)
    membership = old.membership()
    old.close()
    new = KafkaConsumerClient(transactional, group)
    new.subscribe([topics.clicks])
    join(new)
    with pytest.raises(TransactionAborted):
        transaction.publish([profile(topics, b"zombie")], {(topics.clicks, 0): 1}, membership)
    transaction.publish([profile(topics, b"owner")], {(topics.clicks, 0): 1}, new.membership())
    assert values(transactional, topics.profiles) == [b"owner"]
    assert new.start((topics.clicks, 0)) == 1
    new.close()


def join(consumer: KafkaConsumerClient) -> None:
    deadline = time.monotonic() + 60
    while not consumer.joined or not consumer.rebalances():
        consumer.poll(0.05, 1)
        assert time.monotonic() < deadline


def test_a_rebalance_that_the_loop_has_not_heard_of_stops_the_transaction(
    transactional: Connection, topics: Topics
) -> None:
    consumer = KafkaConsumerClient(transactional, GroupConfig(group=topics.prefix, session_timeout_s=2))
    consumer.subscribe([topics.clicks])
    deadline = time.monotonic() + 60
    while not consumer._rebalances.waiting:
        consumer.poll(0.05, 1)
        assert time.monotonic() < deadline
    with pytest.raises(TransactionAborted, match="moved on"):
        consumer.membership()
    consumer.rebalances()
    assert consumer.membership().group_id == topics.prefix
    consumer.close()


@pytest.mark.slow
def test_a_transaction_that_outlives_its_time_is_aborted_and_the_producer_replaced(
    transactional: Connection, topics: Topics
) -> None:
    publisher = TransactionalPublisher(transactional, timeout_s=1)
    publisher.take(f"{topics.prefix}slow")

    def dawdle(point: str) -> None:
        if point == "before-commit":
            failpoints.arm(None)
            # a reader waits until the broker, which looks for overdue transactions now and then, has ended this one
            assert read(transactional, topics.profiles) == []

    failpoints.arm(dawdle)
    with pytest.raises(TransactionAborted):
        publisher.publish([profile(topics, b"too late")], {})
    publisher.publish([profile(topics, b"in time")], {})
    assert values(transactional, topics.profiles) == [b"in time"]
    publisher.close()


def test_a_message_that_the_broker_refuses_is_named_and_nothing_of_its_transaction_is_seen(
    transactional: Connection, topics: Topics
) -> None:
    loose = TransactionalPublisher(transactional, limits={topics.profiles: 4_000_000}, timeout_s=5)
    loose.take(f"{topics.prefix}loose")
    long = Message(topics.profiles, b"long", random.Random(0).randbytes(2_000_000), 0)
    messages = [Message(topics.profiles, b"u%d" % n, b"x", 0) for n in range(5)]
    with pytest.raises(PublishFailed) as failure:
        loose.publish([*messages[:2], long, *messages[2:]], {})
    assert [message for message, _ in failure.value.refused] == [long]
    loose.publish(messages, {})
    assert [record.key for record in read(transactional, topics.profiles)] == [m.key for m in messages]
    loose.close()


def test_what_is_too_long_for_any_broker_is_refused_before_the_transaction_begins(
    topics: Topics, transaction: TransactionalPublisher
) -> None:
    with pytest.raises(PublishFailed, match="more than the"):
        transaction.publish([profile(topics, bytes(2_000_000))], {})
    transaction.publish([profile(topics, b"fine")], {})


def test_without_partitions_there_is_no_transaction(topics: Topics, transaction: TransactionalPublisher) -> None:
    transaction.take(None)
    with pytest.raises(TransactionAborted):
        transaction.publish([profile(topics, b"x")], {})


def test_a_table_catches_up_past_the_marks_of_transactions(
    transactional: Connection, topics: Topics, transaction: TransactionalPublisher
) -> None:
    transaction.publish([profile(topics, b"1")], {})
    transaction.abort_one(profile(topics, b"aborted"))
    reader = TableReader.open(transactional, {topics.profiles: lambda record: None})
    assert reader.catch_up(10) == 1
    reader.close()


class Member:
    """A member of a group whose partition was committed up to 5 when it was started."""

    def __init__(self) -> None:
        self.at_start: int | None = 5

    def membership(self) -> str:
        return "generation 3"

    def committed_at_start(self, partition: Partition) -> int | None:
        return self.at_start if partition == ("clicks", 1) else None


class Recording:
    """Keeps what would be a transaction."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, dict[Partition, int], object]] = []
        self.ids: list[str | None] = []
        self.fails = False

    def take(self, transactional_id: str | None) -> None:
        self.ids.append(transactional_id)

    def publish(self, messages: Sequence[Message], offsets: Mapping[Partition, int], membership: object) -> None:
        self.calls.append((len(messages), dict(offsets), membership))
        if self.fails:
            raise TransactionAborted("no answer to the commit")


def test_offsets_go_along_even_if_none_has_advanced_so_that_the_group_may_refuse() -> None:
    publisher, member = Recording(), Member()
    delivery = ExactlyOnce(publisher, member, "g")  # type: ignore[arg-type]
    delivery.own([("clicks", 1), ("clicks", 0)])
    assert publisher.ids == ["g-clicks-0.1"]
    message = Message("lists", b"ann", b"x")
    delivery.deliver(Work([message]))
    delivery.deliver(Work([message], {("clicks", 1): 9}))
    delivery.own([("clicks", 1)])  # the other went: what stays is as far as it was
    delivery.deliver(Work([message]))
    delivery.deliver(Work())
    assert publisher.calls == [
        (1, {("clicks", 1): 5}, "generation 3"),
        (1, {("clicks", 1): 9}, "generation 3"),
        (1, {("clicks", 1): 9}, "generation 3"),
    ]
    member.at_start = 20  # it was away, and comes back after somebody else
    delivery.own([])
    delivery.own([("clicks", 1)])
    delivery.deliver(Work([message]))
    assert publisher.calls[-1] == (1, {("clicks", 1): 20}, "generation 3")
    assert publisher.ids == ["g-clicks-0.1", "g-clicks-1", None, "g-clicks-1"]


def test_after_a_commit_of_unknown_outcome_the_brokers_offset_counts() -> None:
    publisher, member = Recording(), Member()
    delivery = ExactlyOnce(publisher, member, "g")  # type: ignore[arg-type]
    delivery.own([("clicks", 1)])
    message = Message("lists", b"ann", b"x")
    delivery.deliver(Work([message], {("clicks", 1): 9}))
    publisher.fails = True
    with pytest.raises(TransactionAborted):
        delivery.deliver(Work([message], {("clicks", 1): 12}))
    publisher.fails, member.at_start = False, 12
    delivery.own([("clicks", 1)])
    delivery.deliver(Work([message]))
    assert publisher.calls[-1][1] == {("clicks", 1): 12}
