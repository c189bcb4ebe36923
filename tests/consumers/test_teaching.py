"""What the updater teaches the ranker: each click once, together with the profile that contains it."""

from __future__ import annotations

import numpy as np
import pytest
from fed_topics import by_topic
from updater_bench import Bench, restarted

from consumers.diversion import Diversion
from consumers.ranker import WEIGHTS
from consumers.stage import Work
from consumers.updater_config import UpdaterConfig
from models.histories import BUCKETS
from models.pace import Pace
from models.profile import ProfileLimits
from models.ranker import RankingConfig
from models.ranker_learning import LearningConfig, RankerLearner
from models.ranker_records import RankerUpdate, lesson_of, weights_of
from models.records import decode, encode

EVERY = UpdaterConfig(learning=LearningConfig(sample=1))


def lessons(bench: Bench, work: Work) -> list[RankerUpdate]:
    return [decode(m.value, RankerUpdate) for m in by_topic(work.messages, bench.names.ranker_updates)]


@pytest.fixture
def every(bench: Bench, diversion: Diversion) -> Bench:
    """The bench with an updater that looks at every click."""
    again = restarted(bench, diversion, config=EVERY)
    again.assign(0, 1)
    return again


def listed(bench: Bench) -> Work:
    bench.encode()
    return bench.work()


def test_a_lesson_goes_out_with_the_profile_and_says_which_clicks_are_in_it(every: Bench) -> None:
    now = every.now_ms
    every.submit(
        every.click("ann", "i0", ts=now - 9),
        every.click("ann", "i1", ts=now - 7),
        every.click("bob", "i2", partition=1, ts=now + 1_000),  # a clock that is ahead
    )
    work = listed(every)
    assert len(every.profiles(work)) == 2
    (update,) = lessons(every, work)
    assert update.taught == {0: (0, 1), 1: (0,)}
    assert update.below == {0: 2, 1: 1}
    lesson = lesson_of(update)
    assert lesson.clicked_ms == now - 7
    assert lesson.clicks[[BUCKETS.index(0), BUCKETS.index(1)]].tolist() == [2, 1]
    assert lesson.gradients.any()
    assert lessons(every, every.work()) == []


def test_a_click_that_is_read_again_teaches_nothing(every: Bench, diversion: Diversion) -> None:
    click = every.click("ann", "i0")
    every.submit(click)
    assert len(lessons(every, listed(every))) == 1
    again = restarted(every, diversion, config=EVERY)
    again.assign(0, 1)
    again.submit(click)
    work = listed(again)
    assert again.lists(work), "the list goes out again, since a crash may have come before it"
    assert lessons(again, work) == []


def test_what_says_no_what_repeats_and_what_comes_too_fast_teach_nothing(every: Bench, diversion: Diversion) -> None:
    every.submit(every.click("ann", "i0", event_id="e"), every.click("ann", "i1", event="dismiss"))
    every.submit(every.click("ann", "i2", event_id="e"), every.click("ann", "i0"))
    (update,) = lessons(every, listed(every))
    assert update.taught == {0: (0,)}
    hasty = UpdaterConfig(learning=LearningConfig(sample=1), profile=ProfileLimits(pace=Pace(2)))
    slow = restarted(every, diversion, config=hasty)
    slow.assign(0, 1)
    for number in range(3, 9):
        slow.submit(slow.click("eve", f"i{number}"))
    (update,) = lessons(slow, listed(slow))
    assert len(update.taught[0]) == 2


def test_a_refused_list_takes_the_lesson_with_it(every: Bench) -> None:
    every.submit(every.click("ann", "i0"), every.click("bob", "i1"))
    every.encode()
    every.clock.now += 0.05
    work = every.updater.poll(every.clock.now)
    assert work is not None
    bad = by_topic(work.messages, every.names.recommendations)[0]
    left = every.updater.refused(work, [(bad, "too large")])
    assert left is not None
    assert lessons(every, left) == []
    assert len(every.lists(left)) == 1


def test_weights_are_followed_and_a_list_says_which_made_it(every: Bench) -> None:
    every.submit(every.click("ann", "i0"))
    (before,) = every.lists(listed(every))
    assert before.weights_version == 0
    ranker = RankerLearner(RankingConfig().prior)
    ranker.version, ranker.young = 77, 99
    ranker.breaks.add([5])
    ranker.choice.serving[:] = 6  # text alone
    every.topics.append(every.names.ranker, WEIGHTS, encode(weights_of(ranker, 0)))
    every.work()
    every.submit(every.click("ann", "i1"))
    work = listed(every)
    (after,) = every.lists(work)
    assert after.weights_version == 77
    assert every.updater.recommender.young == 99
    assert every.updater.recommender.neighbours.breaks.times == (5,)
    assert [update.version for update in lessons(every, work)] == [77]
    assert lesson_of(lessons(every, work)[0]).version == 77
    assert all(item.reason.parts["text"] > 0.9 * item.score for item in after.items if item.score > 0.05)
    np.testing.assert_allclose(
        [sum(item.reason.parts.values()) for item in after.items], [item.score for item in after.items], atol=1e-3
    )


def test_nothing_is_taught_where_nothing_is_to_be_learned(bench: Bench, diversion: Diversion) -> None:
    off = restarted(bench, diversion, config=UpdaterConfig(learning=LearningConfig(sample=0)))
    off.assign(0, 1)
    off.submit(*(off.click("ann", f"i{number}") for number in range(6)))
    assert lessons(off, listed(off)) == []


def test_a_lesson_that_fails_delays_no_list(every: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ArithmeticError

    monkeypatch.setattr(every.updater._teaching._teacher, "lesson", fail)
    every.submit(every.click("ann", "i0"))
    work = listed(every)
    assert every.lists(work)
    assert lessons(every, work) == []
    assert every.metrics.registry.get_sample_value("strata_ranker_lessons_failed_total") == 1
