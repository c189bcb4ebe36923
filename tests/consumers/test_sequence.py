"""The sequence role: from profiles to a snapshot to a reader's recommender, at its share of a core, across restarts."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from fed_topics import Clock, Topic, by_topic
from msgspec.structs import replace

from consumers.diversion import Diversion
from consumers.knowledge import Knowledge
from consumers.metrics import Metrics
from consumers.sequence import HEAD, PART, SequenceRole, SequenceRoleConfig
from models import sequence
from models.histories import Histories
from models.index import ItemIndex
from models.items import ItemStore
from models.neighbours import WINDOW, Neighbours
from models.profile import Profile
from models.recommender import Recommender
from models.records import HistoryEntry, ItemVector, ProfileRecord, decode, encode, half
from models.sequence import SequenceConfig, SequenceScorer
from models.sequence_learning import SequenceLearner, SequenceLearning
from models.sequence_records import SequenceHead, SequenceLayout, SequencePart, digest_of
from producers.topics import Topics

D = 16
ITEMS = 24
SMALL = SequenceConfig(dimension=16, heads=2, slots=256)
QUICK = SequenceLearning(batch=32, replay=2, memory=2_000, rate=1e-2)
PARTITIONS = (0, 1)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """As in a process of roles."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def profile(*items: str, fresh: int = 1, damped: tuple[int, ...] = ()) -> bytes:
    return encode(
        ProfileRecord(
            applied=0,
            encoded=0,
            clicks=len(items),
            fresh=fresh,
            history=tuple(HistoryEntry(item, 0, "click") for item in items),
            seen=b"",
            events=(),
            vector=b"",
            layer="",
            updated_ms=0,
            damped=damped,
        )
    )


def item_vector(seed: int, model: str = "m") -> bytes:
    v = np.random.default_rng(seed).normal(size=D)
    vector = half(v / np.linalg.norm(v))
    return encode(ItemVector(model=model, text_hash=b"", tokens=b"", vector=vector, title=f"T{seed}"))


@pytest.fixture
def stream(names: Topics) -> Topic:
    """A catalogue, and 1,200 clicks of 40 users who go round it, each from where he began: i5, i6, i7 …"""
    topics = Topic()
    for i in range(ITEMS):
        topics.append(names.vectors, f"i{i}", item_vector(i))
    draw = random.Random(3)
    histories = {user: [f"i{draw.randrange(ITEMS)}"] for user in range(40)}
    for _ in range(1_200):
        user = draw.randrange(40)
        history = histories[user]
        history.append(f"i{(int(history[-1][1:]) + 1) % ITEMS}")
        topics.append(names.profiles, f"u{user}", profile(*history[-50:]), user % 2)
    return topics


class Life:
    """The role from one start to its end."""

    def __init__(
        self,
        topics: Topic,
        names: Topics,
        diversion: Diversion,
        metrics: Metrics,
        *,
        model: str = "m",
        config: SequenceRoleConfig | None = None,
        step_s: float = 0.0,
    ) -> None:
        self.topics, self.names, self.metrics = topics, names, metrics
        self.clock = Clock()
        self.worked = 0.0
        self.learner = SequenceLearner(ItemStore(D), SMALL, QUICK)
        if step_s:
            self._steps_take(step_s)
        self.role = SequenceRole(
            self.learner, model, topics.open, names, diversion, metrics, config or SequenceRoleConfig(share=1),
            wall=self.clock.wall, clock=self.clock, processor=lambda: self.worked,
        )  # fmt: skip
        self.starts = self.role.assigned([(names.profiles, n) for n in PARTITIONS])
        self.next = {n: self.starts.get((names.profiles, n), 0) for n in PARTITIONS}

    def _steps_take(self, seconds: float) -> None:
        step = self.learner.step

        def slow() -> bool:
            if not step():
                return False
            self.worked += seconds
            self.clock.now += seconds
            return True

        self.learner.step = slow  # type: ignore[method-assign]

    def read(self, records: int = 100_000) -> None:
        for partition in PARTITIONS:
            log = self.topics.logs[self.names.profiles][partition]
            batch = log[self.next[partition] : self.next[partition] + records]
            assert self.role.submit(batch) == len(batch)
            self.next[partition] += len(batch)

    def poll(self, seconds: float = 0.1, break_after: int | None = None) -> list[bytes]:
        """Keys of what was published."""
        self.clock.now += seconds
        work = self.role.poll(self.clock.now)
        if work is None:
            return []
        messages = list(work.messages)[:break_after]
        self.topics.publish(messages)
        if break_after is None:
            self.role.published(work)
        return [m.key or b"" for m in messages]

    def rest(self) -> None:
        self.read()
        steps = -1
        while self.learner.steps > steps:
            steps = self.learner.steps
            self.poll()
        self.poll(20)

    def value(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(f"strata_sequence_{name}") or 0.0


@pytest.fixture
def start(names: Topics, diversion: Diversion, metrics: Metrics) -> Callable[..., Life]:
    return lambda topics, **more: Life(topics, names, diversion, metrics, **more)


def heads(topics: Topic, names: Topics) -> list[SequenceHead]:
    return [decode(r.value, SequenceHead) for r in topics.records(names.sequence) if r.key == HEAD]


class Reader:
    """An updater's side."""

    def __init__(self, topics: Topic, names: Topics, metrics: Metrics, model: str = "m", deep: bool = True) -> None:
        self.metrics = metrics
        self.items = ItemStore(D)
        scorer = SequenceScorer(self.items, SMALL) if deep else None
        self.recommender = Recommender(self.items, Neighbours(self.items), ItemIndex(self.items), None, None, scorer)
        self.knowledge = Knowledge(self.recommender, model, topics.open, names, metrics)
        self.knowledge.catch_up(1)
        self.now = 0.0

    def follow(self) -> None:
        self.now += 1
        self.knowledge.follow(self.now)

    @property
    def version(self) -> int:
        assert self.recommender.sequence is not None
        return self.recommender.sequence.version

    def next_of(self, *items: str) -> str:
        """The item that the deep part expects after these."""
        assert self.recommender.sequence is not None
        rows = [self.items.row(item) for item in items]
        every = np.arange(len(self.items))[None]
        made = self.recommender.sequence.scores(Histories.of([Profile("u", rows=rows)]), every, every >= 0)
        return self.items.ids[int(made.argmax())]


def knows_the_round(reader: Reader) -> float:
    right = [reader.next_of(f"i{(n - 1) % ITEMS}", f"i{n}") == f"i{(n + 1) % ITEMS}" for n in range(ITEMS)]
    return float(np.mean(right))


# -- from clicks to lists --------------------------------------------------------------------------------------------


def test_from_profiles_to_a_snapshot_to_a_readers_recommender(
    stream: Topic, names: Topics, metrics: Metrics, start: Callable[..., Life]
) -> None:
    early = Reader(stream, names, metrics)
    life = start(stream)
    life.rest()
    assert life.learner.clicks == 1_200
    (*_, head) = heads(stream, names)
    assert (head.version, head.offsets) == (1_200, {n: len(stream.logs[names.profiles][n]) for n in PARTITIONS})
    assert head.created_ms == int(life.clock.wall() * 1000)
    assert head.layout == SequenceLayout.of("m", D, SMALL)
    assert early.version == 0
    for _ in range(3):
        early.follow()
    late = Reader(stream, names, metrics)
    for reader in (early, late):
        assert reader.version == 1_200
        assert knows_the_round(reader) > 0.9
    assert life.value("applied_clicks") == 1_200
    assert [life.value(name) for name in ("clicks_total", "steps_total", "waiting_clicks", "published_clicks")] == [
        1_200, 1_200 // 32 + 1, 0, 1_200,
    ]  # fmt: skip
    assert life.value("snapshot_timestamp_seconds") == pytest.approx(head.created_ms / 1000)
    assert life.value("snapshot_bytes") > 10_000
    assert 0 < life.value("loss_nats") < 3


def test_the_first_list_of_a_large_catalogue_is_made_with_the_net(
    stream: Topic, names: Topics, metrics: Metrics, start: Callable[..., Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    life = start(stream)
    life.read(100)
    life.poll()
    monkeypatch.setattr(sequence, "_SLICE", 5)
    assert Reader(stream, names, metrics).version == 32


def test_a_recommender_without_a_deep_part_reads_nothing_of_it(
    stream: Topic, names: Topics, metrics: Metrics, start: Callable[..., Life]
) -> None:
    start(stream).rest()
    reader = Reader(stream, names, metrics, deep=False)
    reader.follow()
    assert reader.recommender.sequence is None
    assert metrics.registry.get_sample_value("strata_sequence_applied_clicks") == 0


def test_an_example_is_a_click_with_the_clicks_before_it_and_none_that_came_too_fast(
    stream: Topic, names: Topics, start: Callable[..., Life]
) -> None:
    life = start(stream)
    taught: list[tuple[str, list[str]]] = []
    ids = life.learner.items.ids
    life.learner.add = lambda row, before: taught.append((ids[row], [ids[r] for r in before]))  # type: ignore[method-assign]
    history = [f"i{n}" for n in range(1, 5)]

    def read(value: bytes | None) -> list[tuple[str, list[str]]]:
        taught.clear()
        life.role.submit([stream.append(names.profiles, "u", value)])
        return taught.copy()

    assert read(profile(*history, fresh=2)) == [("i3", ["i2", "i1"]), ("i4", ["i3", "i2", "i1"])]
    assert read(profile(*history, fresh=2, damped=(0,))) == [("i3", ["i2", "i1"])]
    assert read(profile(*history, fresh=2, damped=(1, 3))) == [("i4", ["i3", "i2", "i1"])]
    assert read(profile(*history, fresh=0)) == []
    assert read(profile(*history, fresh=9)) == [(i, history[:n][::-1]) for n, i in enumerate(history)]
    assert read(None) == []
    long = [f"i{n % ITEMS}" for n in range(50)]
    assert read(profile(*long, fresh=1)) == [(long[-1], long[-2 : -WINDOW - 2 : -1])]


def test_the_learner_knows_the_vectors_of_its_own_model(
    stream: Topic, names: Topics, start: Callable[..., Life]
) -> None:
    stream.append(names.vectors, "foreign", item_vector(50, "another"))
    life = start(stream)
    items = life.learner.items
    assert items.encoded[: len(items)].sum() == ITEMS
    stream.append(names.vectors, "late", item_vector(51))
    stream.append(names.vectors, "i0", None)
    life.poll()
    assert items.encoded[items.find("late")]
    assert not items.available[items.find("i0")]
    assert not items.changed


# -- the pace --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 1.0])
def test_training_takes_its_share_of_a_core_and_no_more(
    stream: Topic, start: Callable[..., Life], share: float
) -> None:
    life = start(stream, config=SequenceRoleConfig(share=share), step_s=0.02)
    life.read()
    began = life.clock.now
    while life.learner.steps < 30:
        life.poll(0.001)
    assert life.learner.waiting, "there is always something to do"
    assert life.worked / (life.clock.now - began) == pytest.approx(share, rel=0.1)
    assert life.worked / (life.clock.now - began) < share * 30 / 29, "the last one has not been paid for yet"
    assert life.value("seconds_total") == pytest.approx(life.worked)


def test_a_few_clicks_wait_for_a_batch_or_for_the_next_snapshot(
    stream: Topic, names: Topics, start: Callable[..., Life]
) -> None:
    life = start(stream, config=SequenceRoleConfig(share=1, publish_s=10))
    life.read()
    life.rest()
    life.poll(11)  # a snapshot went out, and nothing waits
    steps = life.learner.steps

    def clicks(n: int) -> None:
        for i in range(n):
            stream.append(names.profiles, "u", profile(f"i{i % ITEMS}"))
        life.read()
        life.poll(0.1)

    clicks(1)  # the snapshot before is long ago: this one goes at once, and with it a new one
    assert life.learner.steps == steps + 1
    clicks(QUICK.batch - 1)
    assert (life.learner.steps, life.learner.waiting) == (steps + 1, QUICK.batch - 1)
    clicks(1)
    assert (life.learner.steps, life.learner.waiting) == (steps + 2, 0)
    clicks(3)
    life.poll(5)
    assert life.learner.waiting == 3
    life.poll(6)
    assert life.learner.waiting == 0


def test_one_poll_is_one_step_at_most(stream: Topic, start: Callable[..., Life]) -> None:
    life = start(stream)
    life.read()
    for step in range(1, 4):
        life.poll(10)
        assert life.learner.steps == step


def test_clicks_beyond_the_memory_are_missed_and_counted(
    stream: Topic, names: Topics, start: Callable[..., Life]
) -> None:
    for n in range(1_500):
        stream.append(names.profiles, "u", profile(f"i{n % ITEMS}"))
    life = start(stream)
    life.read()
    assert life.value("missed_total") == 700
    life.read()
    assert life.value("missed_total") == 700
    life.rest()
    assert (life.learner.clicks, life.learner.waiting) == (2_000, 0)
    (*_, head) = heads(stream, names)
    assert head.offsets == {n: len(stream.logs[names.profiles][n]) for n in PARTITIONS}


# -- what is published -----------------------------------------------------------------------------------------------


def test_a_snapshot_goes_out_every_ten_seconds_if_something_was_trained(
    stream: Topic, names: Topics, start: Callable[..., Life]
) -> None:
    life = start(stream)
    assert life.poll() == []
    life.read(100)
    assert life.poll() == [PART + b"0", HEAD]
    assert [life.poll() for _ in range(50)] == [[]] * 50
    assert life.poll(5) == [PART + b"0", HEAD]
    assert life.poll(20) == []
    life.read(100)
    assert life.poll() == [PART + b"0", HEAD]
    assert [head.version for head in heads(stream, names)] == [32, 200, 232]
    assert {r.partition for r in stream.records(names.sequence)} == {0}


def test_its_offsets_contain_no_click_that_waits(stream: Topic, names: Topics, start: Callable[..., Life]) -> None:
    life = start(stream)
    for _ in range(12):
        life.read(20)  # 40 clicks, of which a step takes 32
        life.poll(20)
    clicks = 0
    for head in heads(stream, names):
        contained = sum(head.offsets.values())
        assert contained <= head.version, "each record of the stream is one click"
        assert head.version - contained < 3 * QUICK.batch, "and not far from it"
        clicks = max(clicks, contained)
    assert clicks > 200


def test_what_is_no_profile_is_diverted(stream: Topic, names: Topics, start: Callable[..., Life]) -> None:
    life = start(stream)
    records = [stream.append(names.profiles, "u", value) for value in (b"nonsense", None, profile("i1", "i2"))]
    assert life.role.submit(records) == 3
    work = life.role.poll(2_000.0)
    assert work is not None
    assert [m.value for m in by_topic(list(work.messages), names.dead_letters)] == [b"nonsense"]
    assert life.learner.added == 1
    assert life.role.poll(4_000.0) is None


# -- restarts --------------------------------------------------------------------------------------------------------


def test_a_restart_goes_on_from_the_last_snapshot_and_its_offsets(
    stream: Topic, names: Topics, metrics: Metrics, start: Callable[..., Life]
) -> None:
    for records in (150, 200):
        life = start(stream)
        life.read(records)
        for _ in range(records // 32):
            life.poll(20)
        life.read(30)  # known to no snapshot
        (*_, head) = heads(stream, names)
        again = start(stream)
        assert again.learner.clicks == head.version == life.learner.clicks
        assert again.starts == {(names.profiles, n): offset for n, offset in head.offsets.items()}
        assert again.poll(20) == [], "nothing new was trained"
    life = start(stream)
    life.rest()
    assert 1_200 <= life.learner.clicks < 1_200 + 3 * 4 * QUICK.batch, "a few are trained on again"
    assert knows_the_round(Reader(stream, names, metrics)) > 0.9


def test_killed_between_the_parts_it_goes_on_from_the_snapshot_before(
    stream: Topic, names: Topics, metrics: Metrics, start: Callable[..., Life], caplog: pytest.LogCaptureFixture
) -> None:
    life = start(stream)
    life.read(100)
    life.poll(20)
    life.poll(20, break_after=1)
    assert [r.key for r in stream.records(names.sequence)] == [PART + b"0", HEAD, PART + b"0"]
    assert start(stream).learner.clicks == 32
    assert Reader(stream, names, metrics).version == 32
    # and once compaction has left only the newer part, from the beginning
    stream.logs[names.sequence][0] = stream.logs[names.sequence][0][1:]
    with caplog.at_level(logging.WARNING):
        again = start(stream)
    assert again.learner.clicks == 0
    assert again.starts == {}
    assert "training starts anew" in caplog.text
    assert Reader(stream, names, metrics).version == 0
    again.rest()
    assert Reader(stream, names, metrics).version == 1_200


def test_a_first_start_is_no_warning(
    stream: Topic, start: Callable[..., Life], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        start(stream)
    assert caplog.text == ""


def broken(stream: Topic, names: Topics, how: str) -> None:
    """Write the last snapshot again, damaged."""
    head, part = heads(stream, names)[-1], stream.records(names.sequence)[-2]
    data = decode(part.value, SequencePart).data
    if how == "digest":
        head = replace(head, digest=b"x" * 32)
    elif how == "layout":
        head = replace(head, layout=replace(head.layout, heads=4))
    elif how == "model":
        head = replace(head, layout=replace(head.layout, model="another"))
    elif how == "net":
        data = data[:-8] + b"\xff" * 8
        head = replace(head, digest=digest_of(data))
    stream.append(names.sequence, PART + b"0", encode(SequencePart(head.version, 0, data)))
    stream.append(names.sequence, HEAD, b"nonsense" if how == "head" else encode(head))


@pytest.mark.parametrize("how", ["digest", "layout", "model", "net", "head"])
def test_a_snapshot_that_is_broken_or_foreign_is_left_out_by_both(
    stream: Topic,
    names: Topics,
    metrics: Metrics,
    start: Callable[..., Life],
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    life = start(stream)
    life.read(200)
    life.poll(20)
    reader = Reader(stream, names, metrics)
    broken(stream, names, how)
    for _ in range(2):
        reader.follow()
    assert reader.version == 32, "the net that it has"
    good = 2
    stream.logs[names.sequence][0] = stream.logs[names.sequence][0][good:]
    with caplog.at_level(logging.WARNING):
        again = start(stream)
    assert again.learner.clicks == 0
    assert again.starts == {}
    assert "training starts anew" in caplog.text
    assert Reader(stream, names, metrics).version == 0


def test_a_net_for_another_encoder_is_taken_by_neither_side(
    stream: Topic, names: Topics, metrics: Metrics, start: Callable[..., Life], caplog: pytest.LogCaptureFixture
) -> None:
    start(stream).rest()
    with caplog.at_level(logging.WARNING):
        assert start(stream, model="another").learner.clicks == 0
    assert "of this encoder" in caplog.text
    assert Reader(stream, names, metrics, model="another").version == 0


def hostile(good: Sequence[bytes], number: int) -> Iterator[tuple[bytes, bytes]]:
    draw = random.Random(1)
    keys = [HEAD, PART + b"0", PART + b"1", b"", b"part/x", b"\xff"]
    for n in range(number):
        value = draw.choice(good)
        if n % 3 == 0:
            yield draw.choice(keys), draw.randbytes(draw.randrange(200))
        elif n % 3 == 1:
            yield draw.choice(keys), value[: draw.randrange(len(value))]
        else:
            changed = bytearray(value)
            for _ in range(draw.randrange(1, 4)):
                changed[draw.randrange(len(changed))] = draw.randrange(256)
            yield draw.choice(keys), bytes(changed)


def test_a_topic_that_somebody_else_wrote_into_stops_nobody(
    stream: Topic, names: Topics, metrics: Metrics, start: Callable[..., Life]
) -> None:
    start(stream).rest()
    good = [r.value or b"" for r in stream.records(names.sequence)[-2:]]
    reader = Reader(stream, names, metrics)
    for key, value in hostile(good, 600):
        stream.append(names.sequence, key, value)
        reader.knowledge._tables.poll()
    reader.follow()
    assert reader.version == 1_200
    life = start(stream)
    for _ in range(QUICK.batch * 2):
        stream.append(names.profiles, "u", profile("i1", "i2"))
    life.rest()
    assert np.isfinite(life.learner.loss)
    for _ in range(3):
        reader.follow()
    assert reader.version == life.learner.clicks > 1_200
