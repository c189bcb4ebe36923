"""Static membership: a member with a name of its own comes back to what it had, and nobody else hears of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from consumers.client import GroupConfig, Partition, Rebalance
from consumers.kafka_client import KafkaConsumerClient
from producers.connection import Connection
from producers.errors import BrokerError
from producers.topics import Topics

pytestmark = pytest.mark.kafka


class Member:
    """A member of a group that follows its rebalances as the loop does."""

    def __init__(self, connection: Connection, topics: Topics, instance: str | None) -> None:
        group = GroupConfig(group=f"{topics.prefix}group", instance=instance, session_timeout_s=4, heartbeat_s=0.5)
        self.client = KafkaConsumerClient(connection, group)
        self.client.subscribe([topics.clicks])
        self.heard: list[Rebalance] = []
        self.owned: frozenset[Partition] = frozenset()

    def poll(self) -> None:
        self.client.poll(0.02, 1)
        for event in self.client.rebalances():
            if event.partitions:
                self.heard.append(event)
            if event.kind == "assigned":
                self.owned |= event.partitions
                for partition in event.partitions:
                    self.client.start(partition)
            else:
                self.owned -= event.partitions


def poll_until(condition: Callable[[], bool], *members: Member) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, [member.heard for member in members]
        for member in members:
            member.poll()


def test_a_static_member_that_restarts_within_its_session_gets_its_partitions_back_and_moves_no_others(
    kafka: Connection, topics: Topics
) -> None:
    topics.ensure(kafka)
    first, second = Member(kafka, topics, "a"), Member(kafka, topics, "b")
    poll_until(lambda: len(first.owned) == len(second.owned) == 1, first, second)
    before = second.owned
    second.client.close()
    heard = list(first.heard)
    again = Member(kafka, topics, "b")
    poll_until(lambda: bool(again.owned), first, again)
    ends = time.monotonic() + 2  # four heartbeats: it would have heard of a rebalance
    poll_until(lambda: time.monotonic() > ends, first, again)
    assert again.owned == before
    assert first.heard == heard
    first.client.close()
    again.client.close()


def test_a_member_without_a_name_leaves_and_the_others_take_over(kafka: Connection, topics: Topics) -> None:
    topics.ensure(kafka)
    first, second = Member(kafka, topics, None), Member(kafka, topics, None)
    poll_until(lambda: len(first.owned) == len(second.owned) == 1, first, second)
    second.client.close()
    poll_until(lambda: len(first.owned) == 2, first)
    first.client.close()


def test_two_processes_of_one_name_end_the_first_with_an_error_that_names_it(kafka: Connection, topics: Topics) -> None:
    topics.ensure(kafka)
    first = Member(kafka, topics, "twin")
    poll_until(lambda: len(first.owned) == 2, first)
    second = Member(kafka, topics, "twin")
    poll_until(lambda: len(second.owned) == 2, second)
    with pytest.raises(BrokerError, match="joined the group as twin"):
        poll_until(lambda: False, first)
    first.client.close()
    second.client.close()
