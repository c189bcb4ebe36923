"""The neighbours role: its published rows are its state, whatever the moment at which it is killed."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from fed_topics import Topic, by_topic

from consumers.client import Record
from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.neighbours import NeighboursConfig, NeighboursRole
from models.items import ItemStore
from models.neighbours import Neighbours
from models.records import HistoryEntry, NeighbourRow, ProfileRecord, decode, encode
from producers.topics import Topics


def profile(history: Sequence[str], fresh: int) -> bytes:
    return encode(
        ProfileRecord(
            applied=0,
            encoded=0,
            clicks=len(history),
            fresh=fresh,
            history=tuple(HistoryEntry(item, 0, "click") for item in history),
            seen=b"",
            events=(),
            vector=b"",
            layer="",
            updated_ms=0,
        )
    )


class Life:
    """The role from one start to its end."""

    def __init__(self, topics: Topic, names: Topics, diversion: Diversion, metrics: Metrics, rows: int = 2_000) -> None:
        self.topics, self.names = topics, names
        self.role = NeighboursRole(
            Neighbours(ItemStore(0)), topics.open, names, diversion, metrics, NeighboursConfig(publish_rows=rows)
        )
        self.now = 0.0
        starts = self.role.assigned([(names.profiles, 0), (names.profiles, 1)])
        self.next = {n: starts.get((names.profiles, n), 0) for n in (0, 1)}

    def read(self, partition: int, records: int) -> None:
        log = self.topics.logs[self.names.profiles][partition]
        batch: list[Record] = log[self.next[partition] : self.next[partition] + records]
        assert self.role.submit(batch) == len(batch)
        self.next[partition] += len(batch)

    def publish(self, break_after: int | None = None) -> int:
        self.now += 1
        work = self.role.poll(self.now)
        messages = list(work.messages)[:break_after] if work else []
        self.topics.publish(messages)
        return len(messages)

    def rest(self) -> None:
        for partition in (0, 1):
            self.read(partition, 10_000)
        while self.publish():
            pass

    def table(self) -> dict[str, tuple[float, dict[str, float]]]:
        """What a reader has: item → count and neighbours."""
        found = {}
        for record in self.topics.records(self.names.neighbours):
            row = decode(record.value, NeighbourRow)
            weights = np.frombuffer(row.weights, "<f4").tolist()
            found[(record.key or b"").decode()] = (row.count, dict(zip(row.items, weights, strict=True)))
        return found


@pytest.fixture
def stream(names: Topics) -> Topic:
    """300 profile updates of 12 users in two partitions."""
    topics, rng = Topic(), random.Random(5)
    histories: dict[int, list[str]] = {user: [] for user in range(12)}
    for _ in range(300):
        user = rng.randrange(12)
        fresh = rng.choice((0, 1, 1, 1, 3))
        histories[user] += [f"i{rng.randrange(30)}" for _ in range(fresh)]
        topics.append(names.profiles, f"u{user}", profile(histories[user][-50:], fresh), user % 2)
    return topics


def same(a: dict[str, tuple[float, dict[str, float]]], b: dict[str, tuple[float, dict[str, float]]]) -> None:
    assert a.keys() == b.keys()
    for item, (count, weights) in a.items():
        assert b[item][0] == count
        assert b[item][1] == pytest.approx(weights, rel=1e-5)


def test_it_learns_what_a_plain_pass_over_the_clicks_learns(
    stream: Topic, names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    life = Life(stream, names, diversion, metrics)
    life.rest()
    plain = Neighbours(ItemStore(0))
    items = plain.items
    for partition in (0, 1):
        for record in stream.logs[names.profiles][partition]:
            made = decode(record.value, ProfileRecord)
            rows = [items.row(entry.item_id) for entry in made.history]
            for end in range(len(rows) - made.fresh, len(rows)):
                plain.learn(rows[end], rows[:end][::-1])
    table = life.table()
    for item, (count, weights) in table.items():
        row = plain.record(items.row(item), {})
        assert count == row.count
        assert set(weights) == set(row.items)


@pytest.mark.parametrize("seed", range(8))
def test_killed_at_any_moment_it_ends_as_if_it_had_never_stopped(
    seed: int, stream: Topic, names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    uninterrupted = Topic()
    uninterrupted.logs[names.profiles] = stream.logs[names.profiles]
    never_stopped = Life(uninterrupted, names, diversion, metrics)
    never_stopped.rest()

    rng = random.Random(seed)
    for _ in range(6):  # lives, each killed: between two publications, or half-way through one
        life = Life(stream, names, diversion, metrics, rows=rng.choice((5, 2_000)))
        for _ in range(rng.randrange(1, 6)):
            life.read(rng.randrange(2), rng.randrange(25))
            if rng.random() < 0.6:
                life.publish()
        life.publish(break_after=rng.randrange(4))
    last = Life(stream, names, diversion, metrics)
    last.rest()
    same(last.table(), never_stopped.table())


def test_a_row_is_published_at_most_once_a_second(
    stream: Topic, names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    life = Life(stream, names, diversion, metrics)
    life.read(0, 50)
    assert life.role.poll(10.0) is not None
    life.read(0, 50)
    assert life.role.poll(10.9) is None
    assert life.role.poll(11.1) is not None


def test_a_record_that_is_no_profile_is_diverted(
    stream: Topic, names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    life = Life(stream, names, diversion, metrics)
    bad = Record(names.profiles, 0, 0, 0, b"u", b"nonsense")
    gone = Record(names.profiles, 0, 1, 0, b"u", None)
    assert life.role.submit([bad, gone]) == 2
    work = life.role.poll(5.0)
    assert work is not None
    assert [m.value for m in by_topic(list(work.messages), names.dead_letters)] == [b"nonsense"]


def test_a_click_that_came_too_fast_teaches_nothing(names: Topics, diversion: Diversion, metrics: Metrics) -> None:
    topics = Topic()
    fast = msgspec.structs.replace(decode(profile(["a", "b", "c", "d"], fresh=3), ProfileRecord), damped=(0, 2))
    topics.append(names.profiles, "bot", encode(fast))
    life = Life(topics, names, diversion, metrics)
    life.rest()
    table = life.table()
    assert {item: count for item, (count, _) in table.items() if count} == {"c": 1}, "b and d came too fast, a is known"
    assert set(table["c"][1]) == {"a", "b"}
