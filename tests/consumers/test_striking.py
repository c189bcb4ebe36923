"""What is not on offer any more is in no list: not in the next one, and not in those that are published."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from arm_counts import counted
from fed_topics import Clock, Topic, by_topic
from updater_bench import Bench, fill, restarted

from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.striking import AGAIN_S, LOOK_S
from consumers.updater_config import UpdaterConfig
from models.encoder import Encoder
from models.ranker import RankingConfig
from models.recommender import Recommender
from models.records import ItemVector, Recommendation, encode
from producers.topics import Topics


def serve(bench: Bench, *users: str) -> list[Recommendation]:
    bench.submit(*(bench.click(user, "i0") for user in users))
    bench.encode()
    return bench.lists(bench.work())


def ids(made: Recommendation) -> list[str]:
    return [item.item_id for item in made.items]


def put(bench: Bench, shelf: list[ItemVector], item: str, **fields: object) -> None:
    record = msgspec.structs.replace(shelf[int(item[1:])], **fields)
    bench.topics.append(bench.names.vectors, item, encode(record))


def compact(bench: Bench, item: str) -> None:
    """Take away what was published of an item until now."""
    log = bench.topics.logs[bench.names.vectors][0]
    log[:] = [record for record in log if record.key != item.encode()]


def later(bench: Bench) -> list[Recommendation]:
    """The lists that come when the time for a look has passed."""
    bench.clock.now += LOOK_S
    return bench.lists(bench.work())


def count(bench: Bench, name: str) -> float:
    return bench.metrics.registry.get_sample_value(f"strata_{name}") or 0.0


def test_an_item_withdrawn_between_the_encoder_and_the_list_is_not_in_it(bench: Bench) -> None:
    (first,) = serve(bench, "ann")
    bench.submit(bench.click("bob", "i0"))
    bench.encode()
    bench.topics.append(bench.names.vectors, ids(first)[0], None)
    (made, *_) = bench.lists(bench.work())
    assert made.user_id == "bob"
    assert ids(first)[0] not in ids(made)
    assert len(made.items) == 10


Take = Callable[[Bench, list[ItemVector], str], None]


def withdraw(bench: Bench, shelf: list[ItemVector], item: str) -> None:
    bench.topics.append(bench.names.vectors, item, None)


def sell_out(bench: Bench, shelf: list[ItemVector], item: str) -> None:
    put(bench, shelf, item, available=False)


def expire(bench: Bench, shelf: list[ItemVector], item: str) -> None:
    put(bench, shelf, item, expires_ms=bench.now_ms + 500)


def block(bench: Bench, shelf: list[ItemVector], item: str) -> None:
    put(bench, shelf, item, safety=("alcohol",))


def sell_out_anew(bench: Bench, shelf: list[ItemVector], item: str) -> None:
    put(bench, shelf, item, available=False, model="another")


def expire_anew(bench: Bench, shelf: list[ItemVector], item: str) -> None:
    put(bench, shelf, item, expires_ms=bench.now_ms + 500, model="another")


def block_anew(bench: Bench, shelf: list[ItemVector], item: str) -> None:
    put(bench, shelf, item, safety=("alcohol",), model="another")


@pytest.mark.parametrize("take", [withdraw, sell_out, expire, block, sell_out_anew, expire_anew, block_anew])
def test_an_item_that_goes_leaves_the_lists_that_are_published(
    take: Take,
    encoder: Encoder,
    shelves: Topic,
    names: Topics,
    diversion: Diversion,
    metrics: Metrics,
    clock: Clock,
    shelf: list[ItemVector],
) -> None:
    ranking = RankingConfig(blocked_labels=frozenset({"alcohol"}))
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, ranking=ranking)
    bench.assign(0)
    ann, _ = serve(bench, "ann", "bob")
    item = ids(ann)[3]
    take(bench, shelf, item)
    runs = len(bench.queue.take_stats())
    bench.clock.now += LOOK_S
    work = bench.work()
    again = {made.user_id: made for made in bench.lists(work)}
    assert item not in ids(again["ann"])
    assert len(again["ann"].items) == 10
    assert again["ann"].source == ann.source
    assert again["ann"].generated_at > ann.generated_at
    assert again["ann"].encoded
    assert (bench.profiles(work), work.offsets) == ([], {}), "his profile is as it was"
    assert runs == 1, "for the click"
    assert not bench.queue.take_stats(), "without the encoder"
    assert count(bench, "lists_struck_total") == 2
    assert not later(bench), "once"


def test_who_does_not_have_the_item_keeps_his_list(bench: Bench) -> None:
    (made,) = serve(bench, "ann")
    missing = next(f"i{n}" for n in range(1, 36) if f"i{n}" not in ids(made))
    bench.topics.append(bench.names.vectors, missing, None)
    assert not later(bench)


def test_an_item_that_comes_and_goes_within_a_second_leaves_the_lists_too(
    bench: Bench, shelf: list[ItemVector]
) -> None:
    later(bench)
    put(bench, shelf, "i1", title="Just in")
    bench.topics.append(bench.names.vectors, "new", encode(shelf[1]))
    (made,) = serve(bench, "ann")
    assert "new" in ids(made)
    bench.topics.append(bench.names.vectors, "new", None)
    (made,) = later(bench)
    assert "new" not in ids(made)


def test_what_went_while_no_worker_ran_leaves_the_lists_after_a_start(bench: Bench, diversion: Diversion) -> None:
    ann, _ = serve(bench, "ann", "bob")
    bench.topics.append(bench.names.recommendations, "bob", None)
    bench.topics.append(bench.names.vectors, ids(ann)[0], None)
    again = restarted(bench, diversion)
    again.assign(0)
    (made,) = again.lists(again.work())
    assert made.user_id == "ann", "bob has no list"
    assert ids(ann)[0] not in ids(made)


def test_a_withdrawal_that_compaction_has_taken_away_is_one_all_the_same(bench: Bench, diversion: Diversion) -> None:
    (ann,) = serve(bench, "ann")
    compact(bench, ids(ann)[0])
    again = restarted(bench, diversion)
    again.assign(0)
    (made,) = again.lists(again.work())
    assert ids(ann)[0] not in ids(made)


def test_what_stands_beyond_a_list_length_that_was_lowered_is_struck(bench: Bench, diversion: Diversion) -> None:
    (ann,) = serve(bench, "ann")
    again = restarted(bench, diversion, config=UpdaterConfig(list_length=5))
    again.assign(0)
    assert not again.lists(again.work())
    again.topics.append(again.names.vectors, ids(ann)[7], None)
    (made,) = later(again)
    assert ids(made) == ids(ann)[:5]


def refuse(bench: Bench) -> list[Recommendation]:
    """The broker takes none of the lists of the next Work; those that are left of it."""
    bench.clock.now += 0.05
    work = bench.updater.poll(bench.clock.now)
    assert work is not None
    bad = [(message, "too large") for message in by_topic(work.messages, bench.names.recommendations)]
    assert bad
    left = bench.updater.refused(work, bad)
    assert left is not None
    bench.topics.publish(left.messages)
    bench.updater.published(left)
    return bench.lists(left)


def give_up(bench: Bench) -> list[Recommendation]:
    """The lists of the next Work cannot be made; those that are in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recommender, "recommend", lambda *_: 1 / 0)
        return bench.lists(bench.work())


Fail = Callable[[Bench], list[Recommendation]]


@pytest.mark.parametrize("fail", [refuse, give_up])
def test_who_was_to_get_another_list_anyway_is_struck_if_it_does_not_go_out(fail: Fail, bench: Bench) -> None:
    ann, _ = serve(bench, "ann", "bob")
    bench.topics.append(bench.names.vectors, ids(ann)[3], None)
    bench.clock.now += LOOK_S
    bench.submit(bench.click("ann", "i1"))
    assert [made.user_id for made in bench.lists(bench.work())] == ["bob"], "ann's list waits for the encoder"
    bench.encode()
    assert not fail(bench)
    (made,) = later(bench)
    assert made.user_id == "ann"
    assert ids(ann)[3] not in ids(made)
    assert made.source == ann.source, "without the clicks that are dead letters now"
    assert not later(bench), "once"


@pytest.mark.parametrize("fail", [refuse, give_up])
def test_a_struck_list_that_does_not_go_out_is_tried_again_after_a_time(fail: Fail, bench: Bench) -> None:
    (ann,) = serve(bench, "ann")
    bench.topics.append(bench.names.vectors, ids(ann)[3], None)
    bench.clock.now += LOOK_S
    for _ in range(2):
        assert not fail(bench)
        assert not later(bench), "what fails each time is told each time"
        bench.clock.now += AGAIN_S
    (made,) = later(bench)
    assert ids(ann)[3] not in ids(made)
    bench.clock.now += AGAIN_S
    assert not later(bench)


def test_a_list_that_does_not_go_out_is_no_reason_to_strike_one_that_holds_nothing_else(bench: Bench) -> None:
    serve(bench, "ann")
    bench.submit(bench.click("ann", "i1"))
    bench.encode()
    assert not give_up(bench)
    assert not later(bench)


def test_a_list_that_failed_on_a_partition_that_is_another_workers_by_now_is_left_to_him(bench: Bench) -> None:
    serve(bench, "ann")
    bench.updater._striking.failed((9, "ann"), bench.clock.now, struck=False)
    assert not later(bench)


def test_another_model_is_no_reason_to_empty_every_list(
    bench: Bench, diversion: Diversion, shelf: list[ItemVector]
) -> None:
    serve(bench, "ann")
    bench.topics.logs[bench.names.vectors].clear()
    fill(bench.topics, bench.names, shelf, model="another")
    again = restarted(bench, diversion)
    again.assign(0)
    assert not again.lists(again.work())
    assert not later(again)


@pytest.mark.parametrize("take", [withdraw, sell_out, sell_out_anew, expire_anew, block_anew])
def test_what_goes_before_it_is_encoded_again_leaves_the_lists_all_the_same(
    take: Take, bench: Bench, diversion: Diversion, shelf: list[ItemVector]
) -> None:
    (ann,) = serve(bench, "ann")
    item = ids(ann)[3]
    compact(bench, item)
    put(bench, shelf, item, model="another")
    again = restarted(bench, diversion, ranking=RankingConfig(blocked_labels=frozenset({"alcohol"})))
    again.assign(0)
    assert not again.lists(again.work())
    assert not later(again), "it comes back"
    take(again, shelf, item)
    (made,) = later(again)
    assert item not in ids(made)
    assert not later(again), "once"


@pytest.mark.parametrize("model", ["another", ""])
def test_what_went_while_no_worker_ran_is_no_other_models_business(
    bench: Bench, diversion: Diversion, shelf: list[ItemVector], model: str
) -> None:
    (ann,) = serve(bench, "ann")
    compact(bench, ids(ann)[3])
    put(bench, shelf, ids(ann)[3], available=False, model=model or shelf[0].model)
    again = restarted(bench, diversion)
    again.assign(0)
    (made,) = again.lists(again.work())
    assert ids(ann)[3] not in ids(made)


def test_while_the_catalogue_changes_to_another_model_items_stay_on_offer_as_they_were_read(
    bench: Bench, shelf: list[ItemVector]
) -> None:
    (ann,) = serve(bench, "ann")
    for n in range(len(shelf)):
        put(bench, shelf, f"i{n}", model="another", title=f"Anew {n}")
    assert not later(bench)
    (bob,) = serve(bench, "bob")
    assert ids(bob) == ids(ann)
    assert {item.title for item in bob.items} == {f"Anew {item[1:]}" for item in ids(bob)}


def test_many_lists_are_made_again_in_turns_and_hold_no_click_up(bench: Bench, diversion: Diversion) -> None:
    bench = restarted(bench, diversion, config=UpdaterConfig(batch_users=40, deadline_s=60), capacity=512)
    bench.assign(0)
    users = [f"u{n}" for n in range(200)]
    first = serve(bench, *users)
    while not bench.updater.idle():
        first += bench.lists(bench.work())
    bench.topics.append(bench.names.vectors, ids(first[0])[0], None)
    again = [made.user_id for made in later(bench)]
    assert 0 < len(again) <= 40
    assert count(bench, "strike_queue_users") > 100
    bench.submit(bench.click("zoe", "i0"))
    bench.encode()
    for _ in range(2):
        again += [made.user_id for made in bench.lists(bench.work())]
    assert "zoe" in again, "a click waits for a batch, not for all of them"
    for _ in range(10):
        again += [made.user_id for made in bench.lists(bench.work())]
    assert sorted(again) == sorted([*users, "zoe"])
    assert count(bench, "strike_queue_users") == 0


def test_a_revoked_partitions_lists_are_the_next_owners(bench: Bench) -> None:
    (made,) = serve(bench, "ann")
    bench.topics.append(bench.names.vectors, ids(made)[0], None)
    bench.updater.revoked([(bench.names.clicks, 0)])
    assert not later(bench)


def test_a_hit_is_counted_against_a_list_of_before_the_start(bench: Bench, diversion: Diversion) -> None:
    (made,) = serve(bench, "ann")
    again = restarted(bench, diversion)
    again.assign(0)
    again.work()
    again.submit(again.click("ann", ids(made)[0]))
    assert counted(again.metrics, "hits") == 1
