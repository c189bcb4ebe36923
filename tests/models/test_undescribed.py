"""Anybody can click an id that no item has: what that costs is bounded."""

from __future__ import annotations

import tracemalloc

import numpy as np
from small_shop import NOW, Shop, record

from models.events import Click
from models.items import ItemStore
from models.layers import LayerLearner
from models.neighbours import WINDOW, Neighbours
from models.profile import Profile, ProfileLimits
from models.records import ProfileRecord, decode

MANY = 1_000_000


def test_rows_are_given_up_to_the_bound_and_then_one_stands_for_all() -> None:
    items = ItemStore(4, most_undescribed=3)
    rows = [items.mention(f"i{n}") for n in range(6)]
    assert rows == [0, 1, 2, 3, 3, 3]
    assert (items.nowhere, items.undescribed) == (3, 3)
    assert items.mention("i1") == 1, "who has a row keeps it"
    assert items.mention("x" * 65) == items.nowhere
    assert items.describe("i1") == 1, "room for another"
    assert items.mention("i5") == 4
    assert items.describe("i9") == 5, "an item of the catalogue has a row whether or not there is room"
    assert items.mention("i9") == 5
    assert (len(items), items.undescribed) == (6, 3)


def test_too_long_an_id_has_no_row_until_it_is_described() -> None:
    items = ItemStore(4)
    assert items.mention("é" * 32) != items.nowhere
    assert items.mention("é" * 33) == items.nowhere
    assert items.mention("é" * 32) != items.nowhere
    assert items.describe("é" * 33) != items.nowhere
    assert items.mention("é" * 33) != items.nowhere


def test_a_million_random_ids_cost_no_memory_beyond_the_bound() -> None:
    items = ItemStore(4, most_undescribed=1_000)
    neighbours = Neighbours(items, width=8)
    for n in range(3_000):
        neighbours.learn(items.mention(f"{n:x}"), [items.mention(f"{n - 1:x}")])
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for n in range(3_000, 3_000 + MANY):
        items.mention(f"{n:x}")
        if n % 100 == 0:
            neighbours.learn(items.mention(f"{n:x}"), [items.mention(f"{n - 1:x}")])
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 10_000
    assert (len(items), items.undescribed) == (1_001, 1_000)
    assert len(neighbours.counts) <= 1_024


def test_a_profile_knows_its_items_by_name_and_finds_their_rows_once_they_are_described() -> None:
    items, profile = ItemStore(4, most_undescribed=1), Profile("u")
    for offset, name in enumerate(["a", "b", "c"]):
        profile.apply(Click(user_id="u", item_id=name, ts=NOW), offset, items, ProfileLimits())
    assert profile.rows == [0, items.nowhere, items.nowhere]
    stored = decode(profile.record(items, NOW), ProfileRecord)
    assert [entry.item_id for entry in stored.history] == ["a", "b", "c"]
    row = items.describe("c")
    profile.place(items)
    assert profile.rows == [0, items.nowhere, row]
    again = Profile.restore("u", stored, items)
    assert (again.rows, again.names, again.seen) == (profile.rows, profile.names, profile.seen)


def test_what_has_no_row_teaches_neighbours_nothing_and_costs_them_nothing() -> None:
    items = ItemStore(0, most_undescribed=2)
    neighbours = Neighbours(items)
    a, b = items.mention("a"), items.mention("b")
    neighbours.learn(b, [items.mention("x"), a, items.mention("y")])
    neighbours.learn(items.mention("z"), [a, b])
    assert set(neighbours.dirty()) == {a, b}
    made = neighbours.record(b, {})
    assert made.items == ("a",)
    reader = Neighbours(ItemStore(0, most_undescribed=1))
    assert reader.put("b", made) == 0
    assert reader.put("a", neighbours.record(a, {})) == reader.items.nowhere
    assert reader.sizes[0] == 0, "its neighbour has no row here"


def test_lists_are_made_for_who_clicked_what_nobody_described() -> None:
    shop = Shop(each=10)
    shop.populate(20, 6)
    shop.items.most_undescribed = 0
    profile = shop.click("lost", *(f"random-{n}" for n in range(WINDOW)), "tea-1")
    assert profile.rows[0] == shop.items.nowhere
    (ranked,) = shop.recommender.recommend([profile], NOW)
    assert len(ranked.rows) == 10
    assert shop.items.nowhere not in ranked.rows
    assert {shop.items.ids[row] for causes in ranked.because for row in causes if row >= 0} <= {"tea-1"}
    shop.items.put("random-3", record(0, 999))
    profile.place(shop.items)
    assert shop.items.nowhere in profile.rows
    assert shop.items.find("random-3") in profile.rows


def test_the_layers_checkpoint_fits_into_a_message_whatever_is_clicked() -> None:
    from producers.topics import LAYERS_BYTES

    items = ItemStore(32)
    learner = LayerLearner(items)
    draw = np.random.default_rng(0)
    for n in range(600):
        items.put(f"i{n}", record(0, n))
    items.recentre()
    vectors = draw.normal(size=(4_000, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    learner.learn(vectors[:2_100], [[] for _ in range(2_100)])
    for start in range(0, 4_000, 250):
        clicked = [[items.mention(f"{start + u:08x}-{n:055x}") for n in range(15)] for u in range(250)]
        learner.learn(vectors[start : start + 250], [[r for r in rows if r != items.nowhere] for rows in clicked])
    assert items.undescribed == items.most_undescribed
    assert len(learner.state()) < LAYERS_BYTES - 100_000
