"""Which items are in whose published list."""

from __future__ import annotations

import numpy as np
import pytest

from consumers.served import ServedLists


def gone(*rows: int, n: int = 20) -> np.ndarray:
    mask = np.zeros(n, np.bool_)
    mask[list(rows)] = True
    return mask


def test_whose_list_holds_an_item_is_found() -> None:
    served = ServedLists(3)
    served.put("ann", [1, 2, 3])
    served.put("bob", [3])
    served.put("cid", [])
    assert served.holding(gone(3)) == ["ann", "bob"]
    assert served.holding(gone(2, 7)) == ["ann"]
    assert served.holding(gone(0, 19)) == []
    assert [served.place(user, 3) for user in ("ann", "cid", "dan")] == [3, 0, None]
    assert served.place("bob", -1) == 0, "an item that nobody knows"


def test_items_of_any_list_are_marked_and_places_that_a_short_one_does_not_fill_are_none() -> None:
    served, listed = ServedLists(3), np.zeros(6, np.bool_)
    served.put("ann", [1, 2, 3])
    served.put("bob", [2])
    served.put("cid", [0])
    served.forget("cid")
    served.mark(listed)
    assert np.flatnonzero(listed).tolist() == [1, 2, 3]


def test_a_newer_list_takes_the_place_of_the_one_before_and_who_is_forgotten_has_none() -> None:
    served = ServedLists(3)
    served.put("ann", [1, 2, 3])
    served.put("ann", [4])
    assert served.holding(gone(1, 2, 3)) == []
    served.forget("ann")
    served.put("bob", [5])
    assert served.holding(gone(4)) == []
    assert served.holding(gone(5)) == ["bob"]
    assert len(served) == 1


def test_a_list_of_before_the_setting_was_lowered_is_remembered_whole() -> None:
    served = ServedLists(2)
    served.put("ann", [1, 2])
    served.load("bob", [3, 4, 5, 6])
    served.put("cid", [7])
    assert [served.holding(gone(row)) for row in (2, 4, 6, 7)] == [["ann"], ["bob"], ["bob"], ["cid"]]
    assert [served.place(user, row) for user, row in (("ann", 2), ("bob", 6), ("cid", 7), ("cid", 6))] == [2, 4, 1, 0]
    served.put("bob", [3, 4])
    assert served.holding(gone(5, 6)) == []


def test_an_item_that_was_met_after_the_last_look_is_none_of_those_that_went() -> None:
    served = ServedLists(2)
    served.put("ann", [30, 31])
    assert served.holding(gone(4)) == []


def test_what_is_published_while_lists_are_read_back_is_newer() -> None:
    served = ServedLists(2)
    served.put("ann", [1])
    served.forget("bob")
    served.load("ann", [2])
    served.load("bob", [2])
    served.load("cid", [2])
    served.load("dan", [2])
    served.load("dan", None)
    served.loaded()
    served.load("eve", [2])
    assert served.holding(gone(1, 2)) == ["ann", "cid"]


@pytest.mark.parametrize("users", [1_000])
def test_it_grows_with_its_users(users: int) -> None:
    served = ServedLists(10)
    for n in range(users):
        served.put(f"u{n}", [n % 20] * 10)
    assert len(served.holding(gone(7))) == users / 20
    for n in range(0, users, 2):
        served.forget(f"u{n}")
    for n in range(users):
        served.put(f"v{n}", [7])
    assert len(served.holding(gone(7))) == users + users / 20
