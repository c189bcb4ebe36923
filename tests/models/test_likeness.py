"""What reads like what: which entries a row has, and how it follows the catalogue."""

import numpy as np
import pytest

from models import likeness
from models.index import ItemIndex
from models.items import ItemStore
from models.likeness import NEAR, POWER, Likeness
from tests.small_shop import DIMENSION, GROUPS, record


def stocked(each: int = 30) -> tuple[ItemStore, Likeness]:
    """Three groups, followed once."""
    items = ItemStore(DIMENSION)
    for group, name in enumerate(GROUPS[:3]):
        for i in range(each):
            items.put(f"{name}-{i}", record(group, group * 1000 + i))
    table = Likeness(items, ItemIndex(items))
    follow(table)
    return items, table


def follow(table: Likeness) -> None:
    """As the recommender does it."""
    changed = table.items.changed.copy()
    table.items.recentre()
    table._index.sync()
    table.follow(changed)


def names(table: Likeness, item: str) -> set[str]:
    row = table.items.row(item)
    return {table.items.ids[other] for other in table.ids[row, : table.sizes[row]].tolist()}


def ask(table: Likeness, *items: str) -> None:
    table.look_up(np.array([table.items.row(item) for item in items]))


def test_a_row_has_the_nearest_with_a_power_of_their_cosines() -> None:
    items, table = stocked()
    ask(table, "tea-1")
    row = items.row("tea-1")
    cosines = items.centred(slice(0, len(items))) @ items.centred(np.array([row]))[0]
    cosines[row] = -1
    best = np.argsort(-cosines)[:NEAR]
    assert set(table.ids[row].tolist()) == set(best.tolist())
    np.testing.assert_allclose(np.sort(table.weights[row])[::-1], cosines[best] ** POWER, rtol=1e-4)
    np.testing.assert_allclose(np.sort(table.cosines(np.array([row]))[0])[::-1], cosines[best], rtol=1e-4)


def test_each_click_speaks_for_what_reads_like_itself() -> None:
    items, table = stocked()
    ask(table, "tea-1", "rope-1")
    clicks = np.array([[items.row("rope-1"), items.row("tea-1")]])
    said = table.scores(clicks, np.array([[1, 0.9]], np.float32))[0]
    best = [items.ids[row] for row in np.argsort(-said)[:10].tolist()]
    assert {name.split("-")[0] for name in best} == {"tea", "rope"}
    expected = np.zeros(len(items), np.float32)
    for weight, row in zip((1, 0.9), clicks[0].tolist(), strict=True):
        expected[table.ids[row]] += np.float32(weight) * table.weights[row]
    np.testing.assert_allclose(said, expected, rtol=1e-5)


def test_what_nobody_asked_for_is_not_looked_up_nor_what_is_not_encoded() -> None:
    items, table = stocked()
    ask(table, "tea-1", "unheard of")
    rows = np.array([items.row(item) for item in ("tea-1", "tea-2", "unheard of")])
    assert table.known(rows).tolist() == [True, False, False]
    assert not table.weights[rows[1:]].any()


def test_so_many_are_looked_up_at_a_time_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "_BATCH", 2)
    _, table = stocked()
    rows = np.array([3, 3, 1, 2])
    table.look_up(rows)
    assert table.known(np.array([1, 2, 3])).tolist() == [True, False, True], "those first that stand first"
    version = table.version
    table.look_up(np.array([3, 1]))
    assert table.version == version
    table.look_up(np.array([2, 4, 5]), 1)
    assert table.known(np.array([2, 4, 5])).tolist() == [True, False, False]


def test_a_new_item_is_entered_where_it_reads_alike() -> None:
    items, table = stocked()
    ask(table, "tea-1", "rope-1")
    row = items.row("tea-1")
    items.put("tea-new", record(0, 1))  # it reads exactly like tea-1
    follow(table)
    assert "tea-new" in names(table, "tea-1")
    assert "tea-new" not in names(table, "rope-1")
    assert table.sizes[row] == NEAR, "the least near has given way"
    assert table.cosines(np.array([row])).max() == pytest.approx(1, abs=1e-3)
    assert table.sizes.astype(bool).sum() == 3, "nobody has asked for the others"
    assert len(set(table.ids[row].tolist())) == NEAR
    items.put("tea-new", record(0, 1, title="The same tea"))
    follow(table)
    assert len(set(table.ids[row].tolist())) == NEAR, "once is enough"
    items.put("tea-new", record(2, 2001))  # it is about lamps now
    follow(table)
    ask(table, "tea-1")
    assert "tea-new" not in names(table, "tea-1")


def test_more_arrivals_than_a_batch_wait_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "_BATCH", 2)
    monkeypatch.setattr(likeness, "_WAITING", 3)
    items, table = stocked()
    ask(table, "tea-1")
    for i in range(5):
        items.put(f"tea-new-{i}", record(0, 1))
    follow(table)
    entered = [names(table, "tea-1") & {f"tea-new-{i}" for i in range(5)}]
    follow(table)
    entered.append(names(table, "tea-1") & {f"tea-new-{i}" for i in range(5)})
    assert entered == [{"tea-new-2", "tea-new-3"}, {"tea-new-2", "tea-new-3", "tea-new-4"}], "the oldest gave way"


def test_who_waits_to_be_entered_and_is_found_meanwhile_stands_once_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "_BATCH", 1)
    items, table = stocked()
    ask(table, "tea-1")
    items.put("rope-new", record(1, 1))
    items.put("tea-new", record(0, 2))  # it reads exactly like tea-2
    follow(table)
    ask(table, "tea-2")
    assert "tea-new" in names(table, "tea-2")
    follow(table)
    row = items.row("tea-2")
    assert len(set(table.ids[row].tolist())) == table.sizes[row] == NEAR


def test_a_new_item_displaces_nothing_that_is_nearer() -> None:
    items, table = stocked()
    teas = [f"tea-{i}" for i in range(30)]
    ask(table, *teas)
    number, other = next(
        (number, other)
        for number, tea in enumerate(teas)
        for other in sorted(names(table, tea) & set(teas))
        if tea not in names(table, other)
    )
    before = names(table, other)
    items.put("tea-new", record(0, number))  # it reads exactly like one for which the other's row had no place
    follow(table)
    assert names(table, other) == before


def test_a_text_that_changed_is_near_to_others_and_others_to_it() -> None:
    items, table = stocked()
    ask(table, "tea-1", "lamps-1")
    moved = min(names(table, "tea-1"))
    items.put(moved, record(2, 2001))  # it was about tea, and reads exactly like lamps-1 now
    follow(table)
    assert moved in names(table, "lamps-1")
    ask(table, "tea-1", moved)
    assert moved not in names(table, "tea-1")
    assert {name.split("-")[0] for name in sorted(names(table, moved))[:5]} == {"lamps"}


def test_a_catalogue_that_has_grown_is_looked_up_anew() -> None:
    items, table = stocked()
    ask(table, "tea-1")
    version = table.version
    for i in range(30):
        items.row(f"somebody's {i}")
    ask(table, "tea-1")
    assert table.version > version
