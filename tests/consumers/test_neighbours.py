"""The neighbours role: its published rows are its state, whatever the moment at which it is killed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import zip_longest

import msgspec
import numpy as np
import pytest
from fed_topics import Topic, broken, by_topic

from consumers.client import Record
from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.neighbours import NeighboursConfig, NeighboursRole
from models.items import ItemStore
from models.neighbours import Neighbours
from models.records import HistoryEntry, NeighbourRow, ProfileRecord, decode, encode
from producers.topics import Topics


def profile(history: Sequence[str], fresh: int, times: Sequence[int] = ()) -> bytes:
    return encode(
        ProfileRecord(
            applied=0,
            encoded=0,
            clicks=len(history),
            fresh=fresh,
            history=tuple(HistoryEntry(item, at, "click") for item, at in zip_longest(history, times, fillvalue=0)),
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


def broken_at(topics: Topic, names: Topics, *times: int) -> None:
    topics.append(names.ranker, "weights", broken(*times))


@pytest.mark.parametrize("seed", range(8))
def test_killed_around_a_break_of_the_stream_it_ends_as_if_it_had_never_stopped(
    seed: int, names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    """And the same whether it hears of the break as it comes, or with all that was before it still to be read."""
    rng = random.Random(seed)
    histories: dict[int, list[tuple[str, int]]] = {user: [] for user in range(12)}
    updates = []
    for at in range(300):
        user, fresh = rng.randrange(12), rng.choice((0, 1, 1, 3))
        histories[user] += [(f"i{rng.randrange(30)}", at) for _ in range(fresh)]
        items, times = zip(*histories[user][-50:], strict=True) if histories[user] else ((), ())
        updates.append((f"u{user}", profile(items, fresh, times), user % 2))

    def append(topics: Topic, start: int, end: int) -> None:
        for user, value, partition in updates[start:end]:
            topics.append(names.profiles, user, value, partition)

    known = Topic()
    broken_at(known, names, 150)
    append(known, 0, 300)
    never_stopped = Life(known, names, diversion, metrics)
    never_stopped.rest()

    topics = Topic()
    append(topics, 0, 150)
    for number in range(8):
        life = Life(topics, names, diversion, metrics, rows=rng.choice((5, 2_000)))
        for _ in range(rng.randrange(1, 6)):
            life.read(rng.randrange(2), rng.randrange(25))
            if rng.random() < 0.6:
                life.publish()
        if number == 3:
            broken_at(topics, names, 150)
            life.publish()
            append(topics, 150, 300)
        life.publish(break_after=rng.randrange(4))
    last = Life(topics, names, diversion, metrics)
    last.rest()
    table, expected = read(topics, names), read(known, names)
    for item in expected.items.ids:
        one, other = (each.record(each.items.row(item), {}) for each in (table, expected))
        assert (one.count, one.breaks) == (other.count, (150,))
        assert one.effective == pytest.approx(other.effective, rel=1e-5)
        assert one.effective < one.count
        weights = [dict(zip(r.items, np.frombuffer(r.weights, "<f4").tolist(), strict=True)) for r in (one, other)]
        assert weights[0] == pytest.approx(weights[1], rel=1e-4)


def read(topics: Topic, names: Topics) -> Neighbours:
    """The table as an updater has it, which hears of breaks by the rows and from the ranker role."""
    table = Neighbours(ItemStore(0))
    for record in topics.records(names.neighbours):
        table.put((record.key or b"").decode(), decode(record.value, NeighbourRow))
    table.forget([150])
    return table


def test_at_a_break_no_row_is_published_again(
    stream: Topic, names: Topics, diversion: Diversion, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    life = Life(stream, names, diversion, metrics)
    life.rest()
    rows = len(stream.records(names.neighbours))
    broken_at(stream, names, 150)
    stream.append(names.profiles, "ann", profile(["i3", "i4"], 1, [100, 200]))
    life.rest()
    assert {r.key for r in stream.records(names.neighbours)[rows:]} == {b"i3", b"i4"}
    assert "the stream broke" in caplog.text


def test_what_came_after_a_break_that_is_found_late_is_published_whole_at_once(
    names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    topics = Topic()
    for user, items, times in (("ann", ["i1", "i2"], [100, 110]), ("bob", ["i3", "i4"], [160, 170])):
        topics.append(names.profiles, user, profile(items, 2, times))
    life = Life(topics, names, diversion, metrics)
    life.rest()
    before = len(topics.records(names.neighbours))
    broken_at(topics, names, 150)
    topics.append(names.profiles, "cat", profile(["i5"], 1, [200]))
    life.read(0, 10)
    life.read(1, 10)
    life.publish()
    rows = {r.key: decode(r.value or b"", NeighbourRow) for r in topics.records(names.neighbours)[before:]}
    assert rows.keys() == {b"i3", b"i4", b"i5"}
    assert all(row.effective == row.count == 1 for row in rows.values())


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
