"""The updater, step by step: the real model, ranking and queue; topics and time in the test's hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from arm_counts import counted
from fed_topics import TITLES, Clock, Topic, by_topic
from numpy.typing import NDArray
from updater_bench import Bench, fill, restarted

from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.stage import Work
from consumers.teaching import LESSON
from consumers.updater_config import UpdaterConfig
from models.encoder import Encoder
from models.events import Limits
from models.profile import Profile
from models.ranker import RankingConfig
from models.recommender import Recommender
from models.records import ItemVector, Recommendation
from producers.publisher import Message
from producers.topics import Topics


def test_a_click_becomes_a_list_and_a_profile_in_its_own_partition(bench: Bench) -> None:
    bench.submit(bench.click("ann", "i0", partition=1))
    bench.encode()
    work = bench.work()
    (made,) = bench.lists(work)
    assert (made.user_id, made.encoded, made.source.partition, made.source.offset) == ("ann", True, 1, 0)
    assert "Trail running shoes" in {item.title for item in made.items}
    assert "i0" not in {item.item_id for item in made.items}, "what was just clicked is not offered"
    for item in made.items:
        assert item.reason.text
        assert sum(item.reason.parts.values()) == pytest.approx(item.score, abs=1e-3)
    (profile,) = bench.profiles(work)
    assert (profile.applied, profile.encoded, profile.clicks, profile.fresh) == (0, 0, 1, 1)
    assert {m.partition for m in work.messages if m.topic != bench.names.ranker_updates} == {1}
    assert {m.key for m in work.messages} == {b"ann", LESSON}
    assert work.offsets == {(bench.names.clicks, 1): 1}
    assert bench.updater.idle()


def test_nothing_is_committed_before_the_list(bench: Bench) -> None:
    bench.submit(bench.click("ann", "i0"), bench.click("bob", "i1"), bench.click("ann", "i2"))
    assert bench.work() == Work(), "both wait for the encoder"
    assert not bench.updater.idle()
    bench.encode()
    work = bench.work()
    assert work.offsets == {(bench.names.clicks, 0): 3}
    assert len(bench.lists(work)) == 2


def test_an_offset_waits_for_the_oldest_user_without_a_list(
    encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock
) -> None:
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, UpdaterConfig(batch_users=1))
    bench.assign(0)
    bench.submit(bench.click("ann", "i0"), bench.click("bob", "i1"), bench.click("cid", "i2"), bench.click("ann", "i3"))
    bench.encode()
    assert [bench.work().offsets.get((names.clicks, 0)) for _ in range(3)] == [1, 2, 4]


def test_a_list_does_not_wait_for_the_encoder_beyond_its_deadline(bench: Bench) -> None:
    bench.submit(bench.click("ann", "i0"))
    bench.clock.now += 0.6
    first = bench.work()
    (unencoded,) = bench.lists(first)
    (profile,) = bench.profiles(first)
    assert not unencoded.encoded
    assert len(unencoded.items) == 10
    assert (profile.applied, profile.encoded, profile.fresh) == (0, -1, 1)
    assert first.offsets == {(bench.names.clicks, 0): 1}
    assert not bench.work().messages  # he made room for others, and is handed over again now that none waits
    bench.encode()
    second = bench.work()
    (encoded,) = bench.lists(second)
    (profile,) = bench.profiles(second)
    assert encoded.encoded
    assert (profile.encoded, profile.fresh) == (0, 0), "learners do not count the click twice"
    assert not second.offsets


def test_under_more_load_than_the_encoder_bears_who_is_late_makes_room_for_who_is_not(
    encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock
) -> None:
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, newest_first=True)
    bench.assign(0)
    bench.submit(*(bench.click(f"early-{n}", "i0") for n in range(20)))
    bench.clock.now += 0.6
    assert not any(made.encoded for made in bench.lists(bench.work()))
    assert bench.queue.outlets[0].pending == 0, "they stand in nobody's way"
    bench.submit(bench.click("late-0", "i1"), bench.click("late-1", "i1"))
    bench.queue.step()
    made = {one.user_id: one.encoded for one in bench.lists(bench.work())}
    assert made.items() >= {"late-0": True, "late-1": True}.items()
    read = sorted(made.keys() - {"late-0", "late-1"})  # what the batch had room for
    for _ in range(20):
        bench.encode()
        read += [one.user_id for one in bench.lists(bench.work()) if one.encoded]
    assert sorted(read) == sorted(f"early-{n}" for n in range(20)), "nobody is forgotten"


def test_an_erasure_takes_back_what_is_being_read_of_a_user_who_clicked_again(bench: Bench) -> None:
    key = (0, "ann")
    reencoder, outlet = bench.updater._reencoder, bench.updater._reencoder._outlet
    bench.submit(bench.click("ann", "i0"))
    encode = bench.encoder.encode

    def meanwhile(inputs: object) -> object:
        bench.submit(bench.click("ann", "i1"))
        assert reencoder.drop(key)
        reencoder.forget([key])
        return encode(inputs)  # type: ignore[arg-type]

    bench.encoder.encode = meanwhile  # type: ignore[assignment, method-assign]
    try:
        bench.queue.step()
    finally:
        bench.encoder.encode = encode  # type: ignore[method-assign]
    assert not outlet.drain()


def test_who_was_served_without_bert_is_encoded_after_a_restart(bench: Bench, diversion: Diversion) -> None:
    bench.submit(bench.click("ann", "i0"))
    bench.clock.now += 0.6
    bench.work()
    again = restarted(bench, diversion)
    assert again.assign(0) == {(bench.names.clicks, 0): 1}
    again.work()
    again.encode()
    (made,) = again.lists(again.work())
    assert made.encoded


def test_a_user_with_five_clicks_is_encoded_once(bench: Bench) -> None:
    assert bench.submit(*(bench.click("ann", f"i{i}") for i in range(5))) == 5
    bench.encode()
    work = bench.work()
    assert [stats.inputs for stats in bench.queue.take_stats()] == [{"users": 1}]
    assert [p.fresh for p in bench.profiles(work)] == [5]
    assert len(bench.lists(work)) == 1


def test_a_click_while_the_encoder_works_makes_the_list_twice(bench: Bench) -> None:
    bench.submit(bench.click("ann", "i0"))
    bench.encode()
    bench.submit(bench.click("ann", "i1"))
    first = bench.work()
    assert [p.encoded for p in bench.profiles(first)] == [0]
    assert [p.applied for p in bench.profiles(first)] == [1]
    bench.work()
    bench.encode()
    (profile,) = bench.profiles(bench.work())
    assert profile.encoded == profile.applied == 1


def test_what_was_read_too_late_makes_no_second_list_of_the_same_clicks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = bench.encoder.encode
    served: list[Recommendation] = []

    def slow(inputs: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        monkeypatch.setattr(bench.encoder, "encode", read)
        bench.submit(bench.click("ann", "i1"))
        bench.clock.now += 0.6
        served.extend(bench.lists(bench.work()))
        return read(inputs)

    monkeypatch.setattr(bench.encoder, "encode", slow)
    bench.submit(bench.click("ann", "i0"))
    bench.queue.step()
    served += bench.lists(bench.work())  # the history up to i0
    bench.encode()
    served += bench.lists(bench.work())
    assert [(made.source.offset, made.encoded) for made in served] == [(1, False), (1, True)]


def test_a_replayed_click_sends_the_same_list_and_changes_nothing(bench: Bench, diversion: Diversion) -> None:
    click = bench.click("ann", "i0")
    bench.submit(click)
    bench.encode()
    (before,) = bench.lists(bench.work())
    again = restarted(bench, diversion)
    again.assign(0)
    again.submit(click)  # published, but the commit was lost
    work = again.work()
    (after,) = again.lists(work)
    assert [item.item_id for item in after.items] == [item.item_id for item in before.items]
    assert after.source == before.source
    assert again.profiles(work) == []
    assert work.offsets == {(bench.names.clicks, 0): 1}


def test_the_final_vector_does_not_depend_on_how_the_clicks_came(
    encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock
) -> None:
    def vector(steps: Sequence[int], partition: int) -> np.ndarray:
        bench = Bench(encoder, shelves, names, diversion, metrics, clock)
        bench.assign(partition)
        clicks = [bench.click("zoe", f"i{i}", partition=9) for i in (3, 5, 8, 9, 20)]
        at = 0
        for step in steps:
            bench.submit(
                *(c._replace(partition=partition, offset=at + i) for i, c in enumerate(clicks[at : at + step]))
            )
            at += step
            bench.encode()
            work = bench.work()
        return np.frombuffer(bench.profiles(work)[-1].vector, "<f2")

    np.testing.assert_array_equal(vector([5], 7), vector([1, 1, 1, 1, 1], 8))


def test_a_malformed_click_is_diverted_with_the_commit_and_the_rest_flows_on(bench: Bench) -> None:
    bad = bench.topics.append(bench.names.clicks, "x", b"\xff{")
    bench.submit(bad, bench.click("ann", "i0"))
    bench.encode()
    work = bench.work()
    (letter,) = by_topic(work.messages, bench.names.dead_letters)
    assert (letter.key, letter.value) == (b"clicks/0/0", b"\xff{")
    assert dict(letter.headers)["strata-error-stage"] == b"decode"
    assert len(bench.lists(work)) == 1
    assert work.offsets == {(bench.names.clicks, 0): 2}


def test_a_revoked_partition_leaves_no_trace_in_later_work(bench: Bench) -> None:
    bench.submit(bench.click("ann", "i0", partition=0), bench.click("bob", "i1", partition=1))
    bench.updater.revoked([(bench.names.clicks, 0)])
    bench.encode()
    work = bench.work()
    assert [made.user_id for made in bench.lists(work)] == ["bob"]
    assert set(work.offsets) == {(bench.names.clicks, 1)}
    assert bench.updater.idle()


def test_a_full_stage_refuses_and_takes_the_rest_later(
    encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock
) -> None:
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, UpdaterConfig(owed_users=2), capacity=1)
    bench.assign(0)
    clicks = [bench.click(f"u{i}", "i0") for i in range(4)]
    taken = bench.submit(*clicks)
    assert taken == 2
    served = []
    for _ in range(20):
        bench.encode()
        served += [made.user_id for made in bench.lists(bench.work())]
        taken += bench.submit(*clicks[taken:])
    assert taken == 4
    assert served == ["u0", "u1", "u2", "u3"], "one at a time through a queue of one, nobody twice"


@pytest.mark.parametrize("users", [2, 3, 4])
def test_a_batch_of_lists_is_as_long_as_the_setting_and_no_longer(
    encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock, users: int
) -> None:
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, UpdaterConfig(batch_users=3))
    bench.assign(0)
    bench.submit(*(bench.click(f"u{i}", "i0") for i in range(users)))
    bench.encode()
    assert [len(bench.lists(bench.work())) for _ in range(2)] == [min(users, 3), max(0, users - 3)]


@pytest.mark.parametrize(
    ("pads", "taken"), [((400, 400, 0), 3), ((1_000, 0, 0), 2), ((2_000, 0, 0), 1), ((0, 2_000, 0), 2)]
)
def test_long_clicks_in_flight_make_it_refuse_until_their_lists_are_out(
    encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock,
    pads: tuple[int, ...], taken: int,
) -> None:  # fmt: skip
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, UpdaterConfig(in_flight_bytes=2_100))
    bench.assign(0, 1)
    clicks = [bench.click(f"u{i}", "i0", pad="x" * pad) for i, pad in enumerate(pads)]
    assert bench.submit(*clicks) == taken
    assert bench.submit(*clicks[taken:]) == 0 or taken == 3
    bench.encode()
    bench.work()
    assert bench.submit(*clicks[taken:]) == 3 - taken, "what was served is not in flight any more"
    bench.updater.revoked([(names.clicks, 0)])
    assert bench.updater._in_flight.bytes == 0


def test_dead_letters_that_wait_for_their_commit_are_in_flight_too(
    encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock
) -> None:
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, UpdaterConfig(in_flight_bytes=5_000))
    bench.assign(0)
    bad = [bench.topics.append(names.clicks, "u", b"[" * 1_000) for _ in range(10)]
    assert bench.submit(bench.click("u0", "i0"), *bad) == 4


def test_a_withdrawn_item_is_in_no_later_list(bench: Bench) -> None:
    bench.submit(bench.click("ann", "i0"))
    bench.topics.append(bench.names.vectors, "i1", None)
    bench.encode()
    (made,) = bench.lists(bench.work())
    assert "i1" not in {item.item_id for item in made.items}


def test_a_dismissed_item_disappears_without_the_encoder(bench: Bench) -> None:
    bench.submit(bench.click("ann", "i0"))
    bench.encode()
    (made,) = bench.lists(bench.work())
    dismissed = made.items[0].item_id
    bench.submit(bench.click("ann", dismissed, event="dismiss"))
    work = bench.work()
    (made,) = bench.lists(work)
    assert dismissed not in {item.item_id for item in made.items}
    assert made.encoded
    assert bench.queue.step() == 0


def test_a_time_ahead_of_the_clock_counts_as_now(bench: Bench) -> None:
    ahead = int(bench.clock.wall() * 1000) + Limits().future_ms + 1
    bench.submit(bench.click("ann", "i0", ts=ahead))
    bench.encode()
    (made,) = bench.lists(bench.work())
    assert made.event_ts < ahead
    assert bench.metrics.registry.get_sample_value("strata_clicks_future_total") == 1


def test_a_click_on_a_listed_item_is_a_hit(bench: Bench) -> None:
    bench.submit(bench.click("ann", "i0"))
    bench.encode()
    (made,) = bench.lists(bench.work())
    unlisted = next(f"i{i}" for i in range(1, 36) if f"i{i}" not in {item.item_id for item in made.items})
    bench.submit(bench.click("ann", made.items[3].item_id), bench.click("ann", unlisted))
    assert (counted(bench.metrics, "hits"), counted(bench.metrics, "hit_attempts")) == (1, 2)


def test_a_hold_outs_list_says_so_and_its_hits_are_its_own(
    encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock
) -> None:
    ranking = RankingConfig(arms={"popularity.3000": 1.0})
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, ranking=ranking)
    bench.assign(0)
    bench.submit(bench.click("ann", "i0"))
    bench.encode()
    (made,) = bench.lists(bench.work())
    assert made.arm == "popularity.3000"
    bench.submit(bench.click("ann", made.items[3].item_id))
    assert counted(metrics, "hits", "popularity.3000") == 1
    assert not counted(metrics, "hit_attempts")


def test_freshness_counts_from_the_click_to_the_acknowledgement(bench: Bench) -> None:
    bench.submit(bench.click("ann", "i0"))
    bench.clock.now += 0.2
    bench.encode()
    bench.work()
    assert bench.metrics.registry.get_sample_value("strata_freshness_seconds_sum") == pytest.approx(0.35, abs=0.01)
    assert bench.metrics.registry.get_sample_value(
        "strata_lists_published_total", {"encoded": "true"}
    ) == pytest.approx(1)


def test_a_list_without_items_is_counted(
    encoder: Encoder, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock
) -> None:
    bench = Bench(encoder, Topic(), names, diversion, metrics, clock)  # there is no catalogue yet
    bench.assign(0)
    bench.submit(bench.click("ann", "i0"))
    bench.encode()
    bench.clock.now += 1  # past the deadline
    (made,) = bench.lists(bench.work())
    assert made.items == ()
    assert metrics.registry.get_sample_value("strata_lists_empty_total") == 1


def test_vectors_of_another_model_are_told_and_not_used(
    encoder: Encoder,
    shelf: list[ItemVector],
    names: Topics,
    diversion: Diversion,
    metrics: Metrics,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topics = Topic()
    fill(topics, names, shelf, model="another")
    bench = Bench(encoder, topics, names, diversion, metrics, clock)
    bench.assign(0)
    assert not bench.items.encoded.any()
    assert "vectors of another do not fit" in caplog.text
    fill(topics, names, shelf)
    bench.work()
    assert bench.items.encoded.sum() == len(TITLES)


def test_a_click_on_an_item_that_nobody_described_still_gives_a_list(bench: Bench) -> None:
    bench.submit(bench.click("ann", "unknown"))
    (made,) = bench.lists(bench.work())
    assert not made.encoded or made.items
    assert len(made.items) == 10


def test_of_two_records_of_a_profile_the_one_with_more_clicks_counts(bench: Bench, diversion: Diversion) -> None:
    bench.submit(bench.click("ann", "i0"))
    bench.encode()
    old = by_topic(bench.work().messages, bench.names.profiles)[0]
    bench.submit(bench.click("ann", "i1"))
    bench.encode()
    bench.work()
    bench.topics.publish([Message(old.topic, old.key, old.value, 0)])  # a zombie writes late
    again = restarted(bench, diversion)
    again.assign(0)
    again.submit(again.click("ann", "i2"))
    again.encode()
    assert [p.clicks for p in again.profiles(again.work())] == [3]


def test_a_user_whose_list_cannot_be_made_is_diverted_and_the_others_are_served(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommend = Recommender.recommend

    def fails(self: Recommender, profiles: Sequence[Profile], *rest: int) -> object:
        if any(profile.user_id == "bob" for profile in profiles):
            raise ZeroDivisionError("a fault of ours")
        return recommend(self, profiles, *rest)

    monkeypatch.setattr(Recommender, "recommend", fails)
    bench.submit(*(bench.click(user, "i0") for user in ("ann", "bob", "cid", "dan")))
    bench.encode()
    work = bench.work()
    assert [made.user_id for made in bench.lists(work)] == ["ann", "cid", "dan"]
    (letter,) = by_topic(work.messages, bench.names.dead_letters)
    assert b'"bob"' in (letter.value or b"")
    assert dict(letter.headers)["strata-error-class"] == b"ZeroDivisionError"
    assert work.offsets == {(bench.names.clicks, 0): 4}
    assert bench.updater.idle()


def test_a_click_after_a_dismissal_is_not_taken_for_one(bench: Bench) -> None:
    bench.submit(bench.click("ann", "i0"))
    bench.encode()
    bench.work()
    bench.submit(bench.click("ann", "i1", event="dismiss"), bench.click("ann", "i2"))
    assert bench.work() == Work(), "there is something new to read, so the list waits for the encoder"
    bench.encode()
    (made,) = bench.lists(bench.work())
    assert made.encoded


def test_a_refused_list_becomes_dead_letters_of_all_its_clicks_and_the_user_is_as_before(
    bench: Bench, diversion: Diversion
) -> None:
    bench.submit(bench.click("ann", "i0"), bench.click("bob", "i1"))
    bench.encode()
    bench.work()
    clicks = [bench.click("ann", "i2"), bench.click("bob", "i3"), bench.click("ann", "i4")]
    bench.submit(*clicks)
    bench.encode()
    bench.clock.now += 0.05
    work = bench.updater.poll(bench.clock.now)
    assert work is not None
    bad = next(m for m in by_topic(work.messages, bench.names.profiles) if m.key == b"ann")
    left = bench.updater.refused(work, [(bad, "too large")])
    assert left is not None
    assert [(m.topic, m.key) for m in left.messages] == [
        (bench.names.recommendations, b"bob"), (bench.names.profiles, b"bob"),
        (bench.names.dead_letters, b"clicks/0/2"), (bench.names.dead_letters, b"clicks/0/4"),
    ]  # fmt: skip
    letters = by_topic(left.messages, bench.names.dead_letters)
    assert [m.value for m in letters] == [clicks[0].value, clicks[2].value]
    assert {dict(m.headers)["strata-error-stage"] for m in letters} == {b"publish"}
    assert left.offsets == work.offsets
    bench.topics.publish(left.messages)
    bench.updater.published(left)
    bench.submit(bench.click("ann", "i5"))
    bench.encode()
    (profile,) = bench.profiles(bench.work())
    assert [entry.item_id for entry in profile.history] == ["i0", "i5"], "refused clicks are not applied either"


def test_a_dead_letter_that_is_refused_stops_the_role(bench: Bench) -> None:
    bench.submit(bench.topics.append(bench.names.clicks, "x", b"{"))
    bench.clock.now += 0.05
    work = bench.updater.poll(bench.clock.now)
    assert work is not None
    assert bench.updater.refused(work, [(work.messages[0], "no such topic")]) is None


def test_a_revoked_partitions_dead_letters_are_the_next_owners(bench: Bench) -> None:
    bench.submit(
        bench.topics.append(bench.names.clicks, "x", b"{", 0), bench.topics.append(bench.names.clicks, "y", b"{", 1)
    )
    bench.updater.revoked([(bench.names.clicks, 0)])
    assert [m.key for m in by_topic(bench.work().messages, bench.names.dead_letters)] == [b"clicks/1/0"]


def test_learners_see_every_click_of_a_user_who_clicks_faster_than_lists_are_made(bench: Bench) -> None:
    clicks = [bench.click("ann", f"i{i % 36}", ts=1_000 + i) for i in range(130)]
    taken, seen = 0, []
    while taken < len(clicks):
        taken += bench.submit(*clicks[taken:])
        for made in bench.profiles(bench.work()):
            seen += [entry.ts for entry in made.history[len(made.history) - made.fresh :]]
    bench.encode()
    for made in bench.profiles(bench.work()):
        seen += [entry.ts for entry in made.history[len(made.history) - made.fresh :]]
    assert seen == [1_000 + i for i in range(130)]


def test_a_dead_letter_goes_out_with_the_commit_that_covers_it(bench: Bench) -> None:
    """Otherwise a crash between the two makes it come twice, in a transaction too."""
    bench.submit(bench.click("ann", "i0"), bench.topics.append(bench.names.clicks, "x", b"{"))
    assert bench.work() == Work(), "the click before it is not in a list yet"
    assert not bench.updater.idle()
    bench.encode()
    work = bench.work()
    assert len(by_topic(work.messages, bench.names.dead_letters)) == 1
    assert work.offsets == {(bench.names.clicks, 0): 2}


def test_in_a_transaction_a_click_that_is_read_again_owes_nothing(bench: Bench, diversion: Diversion) -> None:
    clicks = [bench.click("ann", "i0"), bench.click("ann", "i1")]
    bench.submit(*clicks)
    bench.encode()
    bench.work()
    again = restarted(bench, diversion, config=UpdaterConfig(atomic=True))
    again.assign(0)
    again.submit(*clicks)
    work = again.work()
    assert work.messages == []
    assert work.offsets == {(bench.names.clicks, 0): 2}
    again.submit(again.click("ann", "i2"))
    again.encode()
    assert [made.source.offset for made in again.lists(again.work())] == [2]
