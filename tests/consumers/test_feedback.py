"""Live quality: each click against the list that its user had, by arm."""

from __future__ import annotations

import pytest
from arm_counts import counted
from fed_topics import TITLES, Clock, Topic
from updater_bench import Bench

from consumers.diversion import Diversion
from consumers.metrics import Metrics
from models.arms import GROUPS, group_of
from models.encoder import Encoder
from models.ranker import RankingConfig
from models.records import NeighbourRow, encode
from producers.topics import Topics


def count(bench: Bench, name: str, arm: str = "full") -> float:
    return counted(bench.metrics, name, arm)


def served(bench: Bench, user: str, item: str) -> list[str]:
    """A click, and the list that follows."""
    bench.submit(bench.click(user, item))
    bench.encode()
    (made,) = bench.lists(bench.work())
    return [one.item_id for one in made.items]


def test_a_hit_counts_by_its_place_and_a_miss_as_an_attempt(bench: Bench) -> None:
    first = served(bench, "ann", "i0")
    assert (count(bench, "hit_attempts"), count(bench, "hits")) == (0, 0), "he had no list"
    second = served(bench, "ann", first[2])
    assert count(bench, "hit_reciprocal_ranks") == pytest.approx(1 / 3)
    third = served(bench, "ann", second[0])
    assert count(bench, "hit_reciprocal_ranks") == pytest.approx(1 / 3 + 1)
    served(bench, "ann", next(item for item in (f"i{n}" for n in range(36)) if item not in third))
    assert (count(bench, "hit_attempts"), count(bench, "hits")) == (3, 2)
    assert count(bench, "hit_reciprocal_ranks") == pytest.approx(4 / 3)


def test_hits_on_new_items_are_counted_beside_their_attempts(bench: Bench) -> None:
    first = served(bench, "ann", "i0")
    for item, clicks in ((first[0], 5.0), (first[1], 4.0)):
        row = NeighbourRow(count=clicks, items=(), weights=b"", offsets={})
        bench.topics.append(bench.names.neighbours, item, encode(row))
    bench.clock.now += 1
    bench.work()
    bench.submit(bench.click("ann", first[0]), bench.click("ann", first[1]), bench.click("ann", "unheard of"))
    assert (count(bench, "hits"), count(bench, "hit_attempts")) == (2, 3)
    assert (count(bench, "new_item_hits"), count(bench, "new_item_hit_attempts")) == (1, 2)


def test_a_click_that_is_read_again_or_says_no_is_judged_no_second_time(bench: Bench) -> None:
    first = served(bench, "ann", "i0")
    click = bench.click("ann", first[0], event_id="e")
    again = bench.click("ann", first[0], event_id="e")
    bench.submit(click, click, again, bench.click("ann", first[1], event="dismiss"))
    assert (count(bench, "hits"), count(bench, "hit_attempts")) == (1, 1)
    assert bench.updater.recommender.counts["dismissed"] == 1


def test_each_arm_counts_for_itself(
    encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock
) -> None:
    arm = "popularity.3000"
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, ranking=RankingConfig(arms={arm: 1.0}))
    bench.assign(0)
    first = served(bench, "ann", "i0")
    bench.show("ann", *first)
    bench.work()
    served(bench, "ann", first[1])
    for name, value in (("hits", 1), ("hit_attempts", 1), ("impressions", 10), ("impression_clicks", 1)):
        assert (count(bench, name, arm), count(bench, name)) == (value, 0), name
    assert count(bench, "hit_reciprocal_ranks", arm) == 0.5


def test_what_users_do_is_counted_by_their_groups(bench: Bench) -> None:
    users = {group_of(user): user for user in ("ann", "bob", "cid", "dan")}
    assert len(users) > 2
    for user in users.values():
        first = served(bench, user, "i0")
        bench.show(user, *first[:3])
        bench.work()
        served(bench, user, first[1])
    for name, each in (("hits", 1), ("hit_attempts", 1), ("impressions", 3), ("impression_clicks", 1)):
        values = {
            group: bench.metrics.registry.get_sample_value(f"strata_{name}_total", {"arm": "full", "group": str(group)})
            for group in range(GROUPS)
        }
        assert values == {group: each if group in users else 0 for group in range(GROUPS)}, name


def gauge(bench: Bench, name: str) -> float | None:
    return bench.metrics.registry.get_sample_value(f"strata_{name}")


def test_who_is_served_with_how_many_different_items_is_looked_at_now_and_then(bench: Bench) -> None:
    bench.work()
    assert [gauge(bench, name) for name in ("served_users", "served_items", "offered_items")] == [0, 0, len(TITLES)]
    lists = [served(bench, user, item) for user, item in (("ann", "i0"), ("bob", "i0"), ("cid", "i20"))]
    assert gauge(bench, "served_users") == 0, "not at every step"
    bench.clock.now += 31
    bench.work()
    different = len({item for one in lists for item in one})
    assert 10 < different < 30
    assert (gauge(bench, "served_users"), gauge(bench, "served_items")) == (3, different)
    assert gauge(bench, "list_items_total") == sum(map(len, lists))
    bench.updater.revoked([(bench.names.clicks, 0)])
    bench.clock.now += 31
    bench.work()
    assert (gauge(bench, "served_users"), gauge(bench, "served_items")) == (0, 0)
