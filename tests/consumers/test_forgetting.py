"""Who is to be forgotten is: profile, list, what he had seen, and what was in flight for him."""

from __future__ import annotations

import pytest
from fed_topics import Clock, Topic, json
from updater_bench import Bench, restarted

from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.stage import Work
from consumers.teaching import LESSON
from consumers.updater_config import UpdaterConfig
from models.encoder import Encoder
from models.pseudonyms import Pseudonyms
from models.records import decode
from producers.topics import Topics

DAY = 86_400


def erase(bench: Bench, user: str, **fields: object) -> None:
    """Order an erasure, now."""
    value = json({"request_id": f"r-{user}"} | fields)
    bench.topics.append(bench.names.erasures, user, value, at=bench.now_ms)


def serve(bench: Bench, *clicks: tuple[str, str]) -> Work:
    bench.submit(*(bench.click(user, item) for user, item in clicks))
    bench.encode()
    return bench.work()


def count(bench: Bench, name: str, **labels: str) -> float:
    return bench.metrics.registry.get_sample_value(f"strata_{name}", labels) or 0.0


Graves = set[tuple[str, int | None, bytes | None]]


def lists(bench: Bench, *users: str) -> Graves:
    """Tombstones of these users' lists, in partition 0."""
    return {(bench.names.recommendations, 0, user.encode()) for user in users}


def profiles(bench: Bench, *users: str, also: int = 0) -> Graves:
    """Tombstones of these users' profiles, in partition 0 and another one."""
    return {(bench.names.profiles, n, user.encode()) for user in users for n in {0, also}}


def test_an_erasure_deletes_profile_and_list_and_a_later_click_starts_fresh(bench: Bench) -> None:
    serve(bench, ("ann", "i0"), ("ann", "i1"), ("bob", "i2"))
    bench.clock.now += 10
    erase(bench, "ann")
    elsewhere = profiles(bench, "ann", also=1) - profiles(bench, "ann")
    assert bench.tombstones(bench.work()) == lists(bench, "ann") | elsewhere, "a receipt waits for every partition"
    assert not bench.updater.idle()
    assert bench.tombstones(bench.work()) == profiles(bench, "ann"), "once the list's tombstone is acknowledged"
    assert count(bench, "users_forgotten_total", why="erased") == 1
    bench.clock.now += 10
    work = serve(bench, ("ann", "i3"))
    (profile,), (made,) = bench.profiles(work), bench.lists(work)
    assert [entry.item_id for entry in profile.history] == ["i3"]
    assert (profile.clicks, profile.fresh) == (1, 1)
    assert len(profile.seen) == 14, "one item seen"
    assert made.user_id == "ann"
    assert not bench.tombstones(bench.work()), "once is enough"


def test_who_is_unknown_is_erased_too_so_that_the_receipt_has_its_proof(bench: Bench) -> None:
    erase(bench, "nobody")
    assert bench.tombstones(bench.work()) == profiles(bench, "nobody", also=1)
    assert count(bench, "users_forgotten_total", why="erased") == 0
    assert bench.updater.idle()


def test_a_click_of_before_the_erasure_is_dropped_and_its_offset_settled(bench: Bench) -> None:
    late = bench.click("ann", "i0")
    bench.clock.now += 10
    erase(bench, "ann")
    bench.work()
    bench.submit(late)
    work = bench.work()
    assert (list(work.messages), work.offsets) == ([], {(bench.names.clicks, 0): 1})
    assert count(bench, "clicks_erased_total") == 1


def test_a_click_that_is_stamped_ahead_does_not_outlive_the_erasure(bench: Bench) -> None:
    ahead = bench.click("ann", "i0", ts=bench.now_ms + 3_600_000)
    bench.clock.now += 10
    erase(bench, "ann")
    bench.work()
    bench.submit(ahead)
    bench.encode()
    assert not bench.work().messages
    assert count(bench, "clicks_erased_total") == 1


def test_what_is_in_flight_for_an_erased_user_is_dropped_and_its_offsets_settled(bench: Bench) -> None:
    bench.submit(bench.click("ann", "i0"), bench.click("bob", "i1"))
    assert bench.work() == Work(), "both are with the encoder"
    bench.clock.now += 0.2
    erase(bench, "ann")
    work = bench.work()
    assert bench.tombstones(work) >= lists(bench, "ann")
    assert work.offsets == {(bench.names.clicks, 0): 1}, "ann's click is settled, bob's is not"
    bench.encode()
    work = bench.work()
    assert bench.tombstones(work) == profiles(bench, "ann")
    assert [made.user_id for made in bench.lists(work)] == ["bob"]
    assert work.offsets == {(bench.names.clicks, 0): 2}
    assert bench.updater.idle()


def test_a_vector_that_is_ready_for_an_erased_user_makes_no_list(bench: Bench) -> None:
    bench.submit(bench.click("ann", "i0"))
    bench.encode()
    bench.clock.now += 1
    erase(bench, "ann")
    work = bench.work()
    assert not bench.lists(work)
    assert work.offsets == {(bench.names.clicks, 0): 1}


def test_clicks_after_the_moment_of_the_erasure_stay(bench: Bench) -> None:
    """A request of yesterday that is carried out today: what the user did today is not its business."""
    serve(bench, ("ann", "i0"), ("ann", "i1"))
    bench.clock.now += 10
    moment = bench.now_ms
    bench.clock.now += 10
    serve(bench, ("ann", "i2"))
    erase(bench, "ann", ts=moment)
    work = bench.work()
    assert bench.tombstones(work) <= profiles(bench, "ann", also=1) - profiles(bench, "ann")
    (profile,), (made,) = bench.profiles(work), bench.lists(work)
    assert [entry.item_id for entry in profile.history] == ["i2"]
    assert (profile.clicks, profile.fresh, profile.erased_ms, len(profile.seen)) == (1, 0, moment, 14)
    assert "i2" not in {item.item_id for item in made.items}
    work = bench.work()
    bench.encode()
    assert [made.encoded for made in bench.lists(bench.work())] == [True], "and he is read again"


def test_an_erasure_that_claims_the_future_reaches_up_to_its_order(bench: Bench) -> None:
    serve(bench, ("ann", "i0"))
    erase(bench, "ann", ts=bench.now_ms + 10 * DAY * 1000)
    bench.work()
    bench.clock.now += 1
    assert bench.profiles(serve(bench, ("ann", "i1")))


def test_an_erasure_that_no_worker_was_there_to_see_is_made_up_for(bench: Bench, diversion: Diversion) -> None:
    serve(bench, ("ann", "i0"), ("bob", "i1"))
    bench.clock.now += 30 * DAY
    erase(bench, "ann")
    bench.clock.now += 30 * DAY
    again = restarted(bench, diversion)
    again.assign(0)
    assert again.tombstones(again.work()) == lists(bench, "ann")
    assert again.tombstones(again.work()) == profiles(bench, "ann")
    again.clock.now += 1
    assert [p.clicks for p in again.profiles(serve(again, ("ann", "i2"), ("bob", "i3")))] == [1, 2]


def test_a_replay_after_an_erasure_brings_nobody_back(bench: Bench, diversion: Diversion) -> None:
    clicks = [bench.click("ann", "i0"), bench.click("ann", "i1")]
    bench.submit(*clicks)
    bench.encode()
    bench.work()
    bench.clock.now += 10
    erase(bench, "ann")
    bench.work()
    bench.clock.now += 1
    later = bench.click("ann", "i2")
    bench.submit(later)
    bench.encode()
    (before,) = bench.profiles(bench.work())
    again = restarted(bench, diversion)
    again.assign(0)
    again.work()
    again.submit(*clicks, later)  # the offsets were set back
    again.encode()
    again.work()
    stored = [r for r in again.topics.records(again.names.profiles) if r.key == b"ann" and r.partition == 0]
    assert decode(stored[-1].value, type(before)).history == before.history


def test_a_worker_that_dies_half_way_leaves_what_is_still_to_be_done(bench: Bench, diversion: Diversion) -> None:
    serve(bench, ("ann", "i0"))
    bench.clock.now += 1
    erase(bench, "ann")
    assert bench.tombstones(bench.work()) >= lists(bench, "ann")
    again = restarted(bench, diversion)  # the list's tombstone was written, the profile's was not
    again.assign(0)
    assert again.tombstones(again.work()) == lists(bench, "ann")
    assert again.tombstones(again.work()) == profiles(bench, "ann")
    last = restarted(bench, diversion)  # nobody knows whether the proof was written
    last.assign(0)
    assert last.tombstones(last.work()) == profiles(bench, "ann")
    last.clock.now += 8 * DAY
    quiet = restarted(bench, diversion)
    quiet.assign(0)
    assert not quiet.work().messages


def test_a_click_right_after_the_erasure_outlives_its_tombstones(bench: Bench, diversion: Diversion) -> None:
    serve(bench, ("ann", "i0"))
    bench = restarted(bench, diversion, config=UpdaterConfig(publish_s=0.2))
    bench.assign(0)
    serve(bench, ("bob", "i0"))
    bench.clock.now += 0.06
    erase(bench, "ann")
    assert bench.updater.poll(bench.clock.now) is None, "known, and too early to publish"
    bench.clock.now += 0.2
    work = serve(bench, ("ann", "i1"))
    assert bench.tombstones(work) == lists(bench, "ann")
    assert [made.user_id for made in bench.lists(work)] == ["ann"]
    bench.clock.now += 0.2
    assert not bench.tombstones(bench.work()), "his profile's would delete the new one"


def test_tombstones_of_a_revoked_partition_are_the_next_owners(bench: Bench) -> None:
    serve(bench, ("ann", "i0"))
    bench.clock.now += 1
    erase(bench, "ann")
    bench.updater.poll(bench.clock.now)  # too early after the last Work: they wait
    bench.clock.now += 0.05
    bench.updater.poll(bench.clock.now)
    bench.updater.revoked([(bench.names.clicks, 0)])
    assert bench.tombstones(bench.work()) <= profiles(bench, "ann", also=1) - profiles(bench, "ann")


def test_a_withdrawn_order_is_none(bench: Bench, diversion: Diversion) -> None:
    erase(bench, "ann")
    bench.topics.append(bench.names.erasures, "ann", None)
    again = restarted(bench, diversion)
    again.assign(0)
    assert not again.work().messages


@pytest.mark.parametrize("value", [b"\xff", b"{", b"[]", b"{}", b'{"request_id": ""}', b'{"request_id": "a\\u0007"}'])
def test_an_order_that_nobody_can_read_erases_nobody(bench: Bench, value: bytes) -> None:
    serve(bench, ("ann", "i0"))
    bench.topics.append(bench.names.erasures, "ann", value, at=bench.now_ms)
    bench.topics.append(bench.names.erasures, b"\xff", b'{"request_id": "r"}', at=bench.now_ms)
    assert not bench.work().messages


# -- pseudonyms -------------------------------------------------------------------------------------------------


def test_with_a_key_nothing_that_is_stored_names_the_user(
    encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock
) -> None:
    pseudonyms = Pseudonyms(b"a key of the shop's own")
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, pseudonyms=pseudonyms)
    bench.assign(0)
    work = serve(bench, ("ann", "i0"))
    assert {m.key for m in work.messages} == {pseudonyms("ann").encode(), LESSON}
    assert all(b'"ann"' not in (m.value or b"") for m in work.messages)
    assert bench.lists(work)[0].user_id == pseudonyms("ann")
    bench.clock.now += 1
    erase(bench, "ann")  # ordered by the id that the clicks have
    assert bench.tombstones(bench.work()) == lists(bench, pseudonyms("ann"))
    assert bench.tombstones(bench.work()) == profiles(bench, pseudonyms("ann"))


def test_a_profile_of_before_there_was_a_key_is_erased_with_it(bench: Bench, diversion: Diversion) -> None:
    serve(bench, ("ann", "i0"))
    pseudonyms = Pseudonyms(b"a key of the shop's own")
    again = restarted(bench, diversion, pseudonyms=pseudonyms)
    again.assign(0)
    again.clock.now += 1
    erase(again, "ann")
    assert again.tombstones(again.work()) == lists(bench, "ann") | profiles(bench, pseudonyms("ann"))
    assert again.tombstones(again.work()) == profiles(bench, "ann")


# -- retention --------------------------------------------------------------------------------------------------


def test_who_has_not_come_for_long_is_deleted_and_who_has_is_not(bench: Bench, diversion: Diversion) -> None:
    serve(bench, ("ann", "i0"), ("bob", "i1"))
    bench.clock.now += 20 * DAY
    serve(bench, ("bob", "i2"))
    again = restarted(bench, diversion, config=UpdaterConfig(retention_s=30 * DAY))
    again.assign(0)
    assert not again.work().messages
    again.clock.now += 11 * DAY
    assert again.tombstones(again.work()) == lists(bench, "ann")
    assert again.tombstones(again.work()) == profiles(bench, "ann")
    assert count(again, "users_forgotten_total", why="expired") == 1
    again.clock.now += 2
    assert not again.work().messages, "not again"
    again.clock.now += 1
    assert [p.clicks for p in again.profiles(serve(again, ("ann", "i3"), ("bob", "i4")))] == [1, 3]


def test_a_sweep_is_done_in_slices_and_begins_again(bench: Bench, diversion: Diversion) -> None:
    users = [f"u{n}" for n in range(1_200)]
    bench = restarted(bench, diversion, config=UpdaterConfig(deadline_s=60))
    bench.assign(0)
    bench.submit(*(bench.click(user, "i0") for user in users))
    while not bench.updater.idle():
        bench.encode()
        bench.work()
    again = restarted(bench, diversion, config=UpdaterConfig(retention_s=30 * DAY))
    again.assign(0)
    again.clock.now += 31 * DAY
    found = []
    for _ in range(4):
        again.clock.now += 1
        found.append(sum(topic == bench.names.recommendations for topic, _, _ in again.tombstones(again.work())))
    assert found == [500, 500, 200, 0]
