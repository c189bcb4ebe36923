"""The ranker role: every lesson counts once, whatever the moment at which the role or an updater is killed."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from fed_topics import Topic

from consumers.client import Record
from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.ranker import RankerRole, RankerRoleConfig
from models.errors import InvalidEvent
from models.experts import EXPERTS
from models.histories import BUCKETS
from models.ranker import RankingConfig
from models.ranker_learning import LearningConfig, Lesson, RankerLearner
from models.ranker_records import (
    LAYOUT,
    RankerState,
    RankerUpdate,
    RankerWeights,
    read_weights,
    restore,
    state_of,
    update_of,
)
from models.records import decode, encode
from producers.topics import Topics


def lesson(seed: int, clicks: int = 3) -> Lesson:
    draw = np.random.default_rng(seed)
    made = Lesson.empty()
    bucket = seed % len(BUCKETS)
    made.clicks[bucket] = clicks
    made.gradients[bucket] = draw.normal(size=made.gradients.shape[1])
    made.squares[bucket] = made.gradients[bucket] ** 2
    made.hits[bucket] = draw.integers(0, clicks + 1, made.hits.shape[1])
    made.version = None if seed % 3 == 0 else max(0, clicks * seed - 40 * (seed % 3))  # some come late
    return made


def update(seed: int, *offsets: int, below: int = 0, partition: int = 0) -> bytes:
    return encode(update_of(lesson(seed), {partition: offsets}, {partition: below}))


class Life:
    """The role from one start to its end."""

    def __init__(
        self,
        topics: Topic,
        names: Topics,
        diversion: Diversion,
        metrics: Metrics,
        config: RankerRoleConfig | None = None,
    ) -> None:
        self.topics, self.names, self.metrics = topics, names, metrics
        ranker = RankerLearner(RankingConfig().prior, LearningConfig())
        self.role = RankerRole(
            ranker, topics.open, names, diversion, metrics, config or RankerRoleConfig(), wall=lambda: 1.0
        )
        self.now = 0.0
        self.next = self.role.assigned([(names.ranker_updates, 0)]).get((names.ranker_updates, 0), 0)

    def read(self, records: int = 10_000) -> None:
        batch: list[Record] = self.topics.logs[self.names.ranker_updates][0][self.next : self.next + records]
        assert self.role.submit(batch) == len(batch)
        self.next += len(batch)

    def publish(self, break_after: int | None = None) -> None:
        self.now += 1
        work = self.role.poll(self.now)
        self.topics.publish(list(work.messages)[:break_after] if work else [])

    def weights(self) -> RankerWeights:
        self.publish()
        return decode(
            [r for r in self.topics.records(self.names.ranker) if r.key == b"weights"][-1].value, RankerWeights
        )


@pytest.fixture
def names() -> Topics:
    return Topics()


@pytest.fixture
def start(names: Topics, diversion: Diversion, metrics: Metrics):  # type: ignore[no-untyped-def]
    return lambda topics, *config: Life(topics, names, diversion, metrics, *config)


def feed(topics: Topic, names: Topics, updates: int) -> None:
    for number in range(updates):
        topics.append(names.ranker_updates, "lesson", update(number, 3 * number, 3 * number + 1, below=3 * number - 9))


def same(a: RankerWeights, b: RankerWeights) -> bool:
    return (a.version, a.weights, a.learned, a.serving, a.clicks, a.hits) == (
        b.version, b.weights, b.learned, b.serving, b.clicks, b.hits,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_killed_at_any_moment_it_ends_as_if_it_had_never_stopped(start, names: Topics, seed: int) -> None:  # type: ignore[no-untyped-def]
    whole, broken, draw = Topic(), Topic(), random.Random(seed)
    for topics in (whole, broken):
        feed(topics, names, 60)
    life = start(whole)
    life.read()
    expected = life.weights()
    for _ in range(12):
        life = start(broken)
        for _ in range(draw.randrange(4)):
            life.read(draw.randrange(12))
            life.publish(draw.choice([None, None, 0, 1]))
    life = start(broken)
    life.read()
    assert same(life.weights(), expected)
    assert expected.version == 180


def test_a_batch_that_repeats_a_click_is_left_out_also_after_a_restart(start, names: Topics) -> None:  # type: ignore[no-untyped-def]
    topics = Topic()
    topics.append(names.ranker_updates, "lesson", update(1, 10, 11, 14))
    life = start(topics)
    life.read()
    life.publish()
    topics.append(names.ranker_updates, "lesson", update(1, 14, 15))  # the updater died and read 14 again
    topics.append(names.ranker_updates, "lesson", update(1, 14, partition=1))  # another partition's 14
    life = start(topics)
    life.read()
    assert life.weights().version == 6
    assert life.metrics.registry.get_sample_value("strata_ranker_lessons_left_out_total", {"why": "repeated"}) == 1


def test_what_cannot_come_again_is_not_remembered(start, names: Topics) -> None:  # type: ignore[no-untyped-def]
    topics = Topic()
    feed(topics, names, 2_000)
    life = start(topics)
    life.read()
    life.publish()
    state = [record for record in topics.records(names.ranker) if record.key == b"state"][-1]
    assert len(state.value or b"") < 15_000


def test_lessons_of_another_version_are_counted_and_left_out(start, names: Topics) -> None:  # type: ignore[no-untyped-def]
    topics = Topic()
    good = decode(update(1, 3), RankerUpdate)
    fields = {name: getattr(good, name) for name in good.__struct_fields__}
    topics.append(names.ranker_updates, "lesson", encode(RankerUpdate(**(fields | {"layout": b"older"}))))
    life = start(topics)
    life.read()
    assert life.weights().version == 0
    assert life.metrics.registry.get_sample_value("strata_ranker_lessons_left_out_total", {"why": "version"}) == 1
    assert good.layout == LAYOUT


@pytest.mark.parametrize("damage", ["gradients", "squares", "hits", "clicks"])
def test_a_broken_lesson_is_a_dead_letter_and_moves_nothing(start, names: Topics, damage: str) -> None:  # type: ignore[no-untyped-def]
    topics = Topic()
    good = decode(update(1, 3), RankerUpdate)
    fields = {name: getattr(good, name) for name in good.__struct_fields__}
    width = 4 if damage in ("gradients", "squares") else 8
    nan = np.full(len(fields[damage]) // width, np.nan, f"<f{width}").tobytes()
    for wrong in (nan, fields[damage][:-1]):
        topics.append(names.ranker_updates, "lesson", encode(RankerUpdate(**(fields | {damage: wrong}))))
    life = start(topics)
    life.read()
    record = life.weights()
    assert record.version == 0
    assert (read_weights(record)[0] == RankingConfig().prior).all()
    assert len(topics.records(names.dead_letters)) == 2


def test_weights_are_read_by_name() -> None:
    ranker = RankerLearner(RankingConfig().prior)
    from models.ranker_records import weights_of

    record = weights_of(ranker, 0)
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    order = list(range(len(record.features)))[::-1]
    turned = np.frombuffer(record.weights, "<f4").reshape(len(BUCKETS), -1)[:, order]
    extra = np.concatenate([turned, np.ones((len(BUCKETS), 1), np.float32)], axis=1).tobytes()
    other = RankerWeights(
        **(fields | {"features": (*record.features[::-1], "of the future"), "weights": extra, "learned": extra})
    )
    assert (read_weights(other)[0] == RankingConfig().prior).all()


def test_a_state_is_continued_whole_also_in_the_middle_of_a_break() -> None:
    ranker, draw = RankerLearner(RankingConfig().prior), np.random.default_rng(1)

    def lesson(rate: float) -> Lesson:
        made = Lesson.empty()
        made.clicks[:], made.hits[:, 0] = 10, draw.binomial(10, rate, len(BUCKETS))
        made.clicked_ms = 77
        return made

    assert sum(ranker.learn(lesson(rate)) for rate in (0.5,) * 40 + (0.0,) * 4) == 1
    other = RankerLearner(RankingConfig().prior)
    restore(other, decode(encode(state_of(ranker, {})), RankerState))
    assert other.young == ranker.young > 0
    assert other.breaks.times == ranker.breaks.times == (77,)
    for _ in range(20):
        step = lesson(0.1)
        ranker.learn(step)
        other.learn(step)
        assert state_of(other, {}) == state_of(ranker, {})


def test_a_slump_goes_on_after_a_restart() -> None:
    ranker = RankerLearner(RankingConfig().prior)
    for number, rate in enumerate((0.5,) * 40 + (0.1,)):
        made = Lesson.empty()
        made.clicks[:], made.hits[:, 0], made.clicked_ms = 10, 10 * rate, 1_000 + number
        ranker.learn(made)
    other = RankerLearner(RankingConfig().prior)
    restore(other, decode(encode(state_of(ranker, {})), RankerState))
    assert (other.choice.slump, other.choice.steady) == (ranker.choice.slump, 1_040)
    assert other.choice.slump > 0
    with pytest.raises(InvalidEvent, match="slump"):
        restore(other, msgspec.structs.replace(state_of(ranker, {}), slump=-1.0, version=5))
    assert other.version == ranker.version


def test_a_state_of_before_breaks_were_watched_for_is_continued() -> None:
    ranker = RankerLearner(RankingConfig().prior)
    state = msgspec.structs.replace(state_of(ranker, {}), recent_clicks=b"", recent_hits=b"", since=0.0, version=5)
    restore(ranker, state)
    assert ranker.version == 5
    assert ranker.choice.since == RankerLearner(RankingConfig().prior).choice.since


def test_a_state_with_a_broken_count_is_refused_and_changes_nothing() -> None:
    ranker = RankerLearner(RankingConfig().prior)
    with pytest.raises(InvalidEvent, match="since a break"):
        restore(ranker, msgspec.structs.replace(state_of(ranker, {}), since=float("nan"), version=5))
    assert ranker.version == 0


def test_what_each_expert_hits_and_which_serves_is_told_by_bucket(start, names: Topics) -> None:  # type: ignore[no-untyped-def]
    made = Lesson.empty()
    made.clicks[1], made.hits[1, EXPERTS.index("co")], made.hits[1, EXPERTS.index("text")] = 1_000, 900, 250
    made.clicks[3], made.hits[3, EXPERTS.index("text")], made.hits[3, EXPERTS.index("co")] = 2_000, 1_500, 200
    topics = Topic()
    topics.append(names.ranker_updates, "lesson", encode(update_of(made, {0: (1,)}, {})))
    life = start(topics)
    life.read()
    life.publish()

    def told(name: str, bucket: str) -> dict[str, float]:
        value = life.metrics.registry.get_sample_value
        found = {
            expert: value(f"strata_ranker_expert_{name}_ratio", {"bucket": bucket, "expert": expert})
            for expert in EXPERTS
        }
        return {expert: of for expert, of in found.items() if of != 0}

    assert told("hit", "1") == {"co": pytest.approx(0.9), "text": pytest.approx(0.25)}
    assert told("hit", "4") == {"text": pytest.approx(0.75), "co": pytest.approx(0.1)}
    assert told("hit", "2") == {}, "nobody with two or three clicks has clicked"
    assert (told("serving", "1"), told("serving", "4")) == ({"co": 1}, {"text": 1})
    assert all(list(told("serving", str(bucket)).values()) == [1] for bucket in BUCKETS), "one serves each"
    made.hits[1, :], made.hits[1, EXPERTS.index("text")] = 0, 1_000
    for offset in range(2, 60):
        topics.append(names.ranker_updates, "lesson", encode(update_of(made, {0: (offset,)}, {})))
    life.read()
    life.publish()
    assert told("serving", "1") == {"text": 1}, "who served before is told to serve no more"


def breaking(names: Topics) -> Topic:
    topics = Topic()
    for number, hit in enumerate((1,) * 60 + (0,) * 20):
        made = Lesson.empty()
        made.clicks[2], made.hits[2, 0], made.clicked_ms = 10, 10 * hit, 1_000 + number
        taught = {0: tuple(range(10 * number, 10 * number + 10))}
        topics.append(names.ranker_updates, "lesson", encode(update_of(made, taught, {})))
    return topics


def test_a_break_of_the_stream_is_counted_and_told_to_the_updaters(start, names: Topics) -> None:  # type: ignore[no-untyped-def]
    life = start(breaking(names))
    life.read()
    assert life.metrics.registry.get_sample_value("strata_ranker_breaks_total") == 1
    weights = life.weights()
    assert weights.version == 800
    assert 10_600 < weights.young < 10_800
    (broke,) = weights.breaks
    assert broke == 1_060, "when it began"


def test_where_nothing_is_to_be_forgotten_a_break_is_counted_and_not_told(start, names: Topics) -> None:  # type: ignore[no-untyped-def]
    life = start(breaking(names), RankerRoleConfig(forget=False))
    life.role.ranker.breaks.add([7])  # of when it was
    life.read()
    assert life.metrics.registry.get_sample_value("strata_ranker_breaks_total") == 1
    weights = life.weights()
    assert weights.young > 10_600
    assert weights.breaks == (7,)
