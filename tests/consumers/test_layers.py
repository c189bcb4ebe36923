"""The layers role: it learns from profiles, survives a kill, and publishes what readers need."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from fed_topics import Clock, Topic, by_topic

from consumers.client import Record
from consumers.diversion import Diversion
from consumers.layers import LayersConfig, LayersRole
from consumers.metrics import Metrics
from models.items import ItemStore
from models.layers import LayerLearner, LayerSettings
from models.records import HistoryEntry, ItemVector, LayerInfo, LayerTree, ProfileRecord, decode, encode, half
from producers.topics import Topics

D = 24
ITEMS = 80
SMALL = LayerSettings(width=3, width_fine=3, reduced=8, seed_at=(64, 256), block=16)


def unit(*shape: int, seed: int) -> np.ndarray:
    v = np.random.default_rng(seed).normal(size=shape)
    return (v / np.linalg.norm(v, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def stream(names: Topics) -> Topic:
    """A catalogue and 600 profile updates."""
    topics = Topic()
    for i, vector in enumerate(unit(ITEMS, D, seed=1)):
        record = ItemVector(
            model="m", text_hash=b"", tokens=b"", vector=half(vector), title=f"T{i}", tags=(f"t{i % 7}",)
        )
        topics.append(names.vectors, f"i{i}", encode(record))
    rng = np.random.default_rng(2)
    for n, vector in enumerate(unit(600, D, seed=3)):
        item = f"i{rng.integers(ITEMS)}"
        topics.append(names.profiles, f"u{n % 50}", profile(half(vector), item), n % 2)
    return topics


def profile(vector: bytes, *items: str, fresh: int = 1, layer: str = "", before: str = "") -> bytes:
    return encode(
        ProfileRecord(
            applied=0,
            encoded=0,
            clicks=len(items),
            fresh=fresh,
            history=tuple(HistoryEntry(item, 0, "click") for item in items),
            seen=b"",
            events=(),
            vector=vector,
            layer=layer,
            updated_ms=0,
            layer_before=before,
        )
    )


class Life:
    """The role from one start to its end."""

    def __init__(self, topics: Topic, names: Topics, diversion: Diversion, metrics: Metrics) -> None:
        self.topics, self.names = topics, names
        self.learner = LayerLearner(ItemStore(D), "m", SMALL)
        self.role = LayersRole(
            self.learner, topics.open, names, diversion, metrics, LayersConfig(checkpoint_s=3), wall=Clock().wall
        )
        starts = self.role.assigned([(names.profiles, 0), (names.profiles, 1)])
        self.next = {n: starts.get((names.profiles, n), 0) for n in (0, 1)}
        self.now = 100.0

    def read(self, records: int) -> None:
        """So many of each partition, in turn, as they were written."""
        for _ in range(records):
            for partition in (0, 1):
                log = self.topics.logs[self.names.profiles][partition]
                self.role.submit(log[self.next[partition] : self.next[partition] + 1])
                self.next[partition] += 1

    def publish(self, seconds: float = 1) -> list[Record]:
        before = len(self.topics.records(self.names.layers))
        self.now += seconds
        work = self.role.poll(self.now)
        if work:
            self.topics.publish(work.messages)
        return self.topics.records(self.names.layers)[before:]


def test_readers_get_the_root_at_once_and_the_tree_when_it_is_seeded(
    stream: Topic, names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    life = Life(stream, names, diversion, metrics)
    life.read(10)
    first = {(r.key or b"").decode(): r.value for r in life.publish()}
    root = decode(first["layer/root"], LayerInfo)
    assert len(root.items) > 5
    assert "tree" not in first
    life.read(100)
    second = {(r.key or b"").decode(): r.value for r in life.publish()}
    tree = decode(second["tree"], LayerTree)
    assert tree.model == "m"
    assert len(tree.fine) == 9 * tree.dimensions[0] * 4
    assert {f"layer/{i}" for i in range(3)} <= set(second)


def test_killed_and_restarted_it_ends_as_if_it_had_never_stopped(
    stream: Topic, names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    apart = Topic()
    apart.logs[names.profiles], apart.logs[names.vectors] = stream.logs[names.profiles], stream.logs[names.vectors]
    never_stopped = Life(apart, names, diversion, metrics)
    never_stopped.read(300)

    life = Life(stream, names, diversion, metrics)
    for records in (40, 70, 50):
        life.read(records)
        assert any(r.key == b"state" for r in life.publish(4))
        life.read(23)  # learned, but in no checkpoint
        life = Life(stream, names, diversion, metrics)
    assert life.learner.clicks == 2 * (40 + 70 + 50)
    life.read(300 - 160)
    assert life.learner.clicks == never_stopped.learner.clicks == 600
    for each in (life, never_stopped):
        each.publish()  # says when layers began
    assert life.learner.state() == never_stopped.learner.state()


def test_a_checkpoint_of_another_model_is_told_and_learning_starts_anew(
    stream: Topic, names: Topics, diversion: Diversion, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life(stream, names, diversion, metrics)
    life.read(50)
    life.publish()
    learner = LayerLearner(ItemStore(D), "another", SMALL)
    role = LayersRole(learner, stream.open, names, diversion, metrics)
    assert role.assigned([(names.profiles, 0)]) == {}
    assert "learning starts anew" in caplog.text


def test_what_is_no_profile_is_diverted_and_an_erased_one_skipped(
    stream: Topic, names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    life = Life(stream, names, diversion, metrics)
    another_model, nan = profile(half(np.ones(3)), "i1"), profile(half(np.full(D, np.nan)), "i1")
    long = profile(half(np.full(D, 100.0)), "i1")
    values = [b"nonsense", None, another_model, nan, long]
    records = [Record(names.profiles, 0, i, 0, b"u", value) for i, value in enumerate(values)]
    assert life.role.submit(records) == 5
    assert life.learner.refused == 1
    assert life.learner.clicks == 2, "a click counts whatever became of its vector"
    work = life.role.poll(200.0)
    assert work is not None
    assert [m.value for m in by_topic(list(work.messages), names.dead_letters)] == [b"nonsense", long]


def test_a_user_who_clicks_too_fast_moves_no_layer(
    stream: Topic, names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    life = Life(stream, names, diversion, metrics)
    vector = half(unit(1, D, seed=9)[0])
    slow = decode(profile(vector, "i1", "i2", fresh=2), ProfileRecord)
    seen: list[tuple[bool, list[list[int]]]] = []

    def learn(vectors: np.ndarray, clicked: list[list[int]]) -> None:
        seen.append((bool(vectors.any()), clicked))

    life.learner.learn = learn  # type: ignore[method-assign, assignment]
    for damped in ((), (1,), (0,), (0, 1)):
        record = encode(msgspec.structs.replace(slow, damped=damped))
        life.role.submit([Record(names.profiles, 0, 0, 0, b"u", record)])
    i1, i2 = (life.learner.items.row(item) for item in ("i1", "i2"))
    assert seen == [(True, [[i1, i2]]), (True, [[i2]]), (False, [[i1]]), (False, [[]])]


def test_who_changes_his_layer_is_seen_by_readers_and_in_the_metrics_also_after_a_kill(
    stream: Topic, names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    life = Life(stream, names, diversion, metrics)
    life.read(100)
    life.publish()
    vector = half(unit(1, D, seed=9)[0])
    moved = profile(vector, layer="1.2", before="0.1")
    too_fast = encode(msgspec.structs.replace(decode(moved, ProfileRecord), damped=(0,)))
    came = profile(vector, "i1", layer="1.2")  # a new user
    for number, value in enumerate((moved, profile(vector, layer="1.2", before="1.2"), too_fast, came)):
        life.role.submit([Record(names.profiles, 0, 100 + number, 0, b"u", value)])

    def told(messages: list[Record]) -> dict[str, LayerInfo]:
        infos = [decode(r.value, LayerInfo) for r in messages if (r.key or b"").startswith(b"layer/")]
        return {info.id: info for info in infos}

    layers = told(life.publish(4))
    assert (layers["0.1"].joined, layers["0.1"].left) == (layers["0"].joined, layers["0"].left) == (0, 1)
    assert layers["1.2"].joined == layers["1"].joined == pytest.approx(1 / 2, abs=1e-3)
    assert layers["1.2"].since_ms == layers["root"].since_ms > 0

    def value(name: str, layer: str) -> float | None:
        return metrics.registry.get_sample_value(f"strata_layer_{name}", {"layer": layer})

    assert value("joined_ratio", "1.2") == layers["1.2"].joined
    assert value("left_ratio", "0.1") == 1
    assert value("joined_ratio", "2.2") is None
    assert value("since_timestamp_seconds", "1.2") == layers["1.2"].since_ms / 1000

    again = Life(stream, names, diversion, metrics)
    again.role.submit([Record(names.profiles, 0, 104, 0, b"u", moved)])
    later = told(again.publish())
    assert later["1.2"].joined == pytest.approx(2 / 3, abs=1e-3)
    assert later["1.2"].since_ms == layers["1.2"].since_ms
