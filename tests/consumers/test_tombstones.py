"""When a user counts as forgotten: only what can be read from the topics says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bookshop import wait_for

from consumers.tables import TableReader
from consumers.tombstones import TombstoneWatch, still_there
from models.items import ItemStore
from models.profile import Profile
from producers.connection import Connection
from producers.publisher import Message, Publisher
from producers.topics import Topics

UNTIL = 1_000


class Watched:
    """The topics, as workers write to them; what is still missing is asked of the watch."""

    def __init__(self, connection: Connection, topics: Topics, publisher: Publisher) -> None:
        self.topics, self.publisher = topics, publisher

        def open_tables(handlers, numbers=None, *, since_ms=None):  # type: ignore[no-untyped-def]
            return TableReader.open(connection, handlers, numbers=numbers, since_ms=since_ms)

        self.watch = TombstoneWatch(open_tables, topics)

    def expect(self, *users: str, since_ms: int = 0) -> None:
        self.watch.expect(dict.fromkeys(users, UNTIL), since_ms)

    def write(self, topic: str, value: bytes | None, partition: int = 0, user: str = "ann") -> None:
        self.publisher.publish([Message(topic, user.encode(), value, partition)])

    def comes_to(self, *missing: str) -> None:
        def there() -> bool:
            self.watch.poll()
            return still_there(self.watch.missing("ann")) == ", ".join(missing)

        wait_for(there, f"{missing}; it is {still_there(self.watch.missing('ann'))}", 10)


@pytest.fixture
def watched(broker: Connection, topics: Topics, publisher: Publisher) -> Iterator[Watched]:
    watched = Watched(broker, topics, publisher)
    yield watched
    watched.watch.close()


def profile(erased: int) -> bytes:
    return Profile("ann", erased=erased).record(ItemStore(4), 0)


def test_every_partition_must_say_so(watched: Watched) -> None:
    profiles = watched.topics.profiles
    watched.expect("ann")
    watched.comes_to(f"{profiles}-0", f"{profiles}-1")
    watched.write(profiles, None, 0)
    watched.write(profiles, None, 1, "bob")
    watched.comes_to(f"{profiles}-1")
    watched.write(profiles, None, 1)
    watched.comes_to()


def test_what_was_written_before_the_watch_began_counts_too(watched: Watched) -> None:
    for number in (0, 1):
        watched.write(watched.topics.profiles, None, number)
    watched.expect("ann")
    watched.comes_to()


def test_a_user_who_started_fresh_is_forgotten_and_one_who_comes_back_as_he_was_is_not(watched: Watched) -> None:
    profiles, lists = watched.topics.profiles, watched.topics.recommendations
    watched.expect("ann")
    watched.write(profiles, profile(erased=UNTIL), 0)
    watched.write(lists, b'{"event_ts": 1001, "items": []}')
    watched.write(profiles, None, 1)
    watched.comes_to()
    watched.write(profiles, profile(erased=0), 1)  # a worker that had been replaced writes late
    watched.write(lists, b'{"event_ts": 1000, "items": []}', 1)
    watched.comes_to(f"{profiles}-1", f"{lists}-1")
    watched.write(lists, None, 1)
    watched.write(profiles, None, 1)
    watched.comes_to()


@pytest.mark.parametrize("broker", [pytest.param("kafka", marks=pytest.mark.kafka)], indirect=True)
def test_what_lies_long_before_the_order_is_not_read(watched: Watched) -> None:
    """The embedded broker begins at the beginning, which is as right and takes longer."""
    profiles = watched.topics.profiles
    for number in (0, 1):
        watched.write(profiles, None, number)
    watched.expect("ann", since_ms=2**42)  # the year 2109: everything lies before it
    watched.watch.poll()
    watched.comes_to(f"{profiles}-0", f"{profiles}-1")
