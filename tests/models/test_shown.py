"""What users were shown: bounded, each impression once, and gone when it must be."""

from __future__ import annotations

from models.shown import SHOWS, Shown

A, B, C = 2**64 - 1, 7, 9


def times(shown: Shown, user: str, item: int) -> list[int]:
    return shown.times(user, item)


def test_an_item_has_the_times_at_which_its_user_was_shown_it() -> None:
    shown = Shown()
    assert shown.put(0, "ann", [A, B], 100)
    assert shown.put(0, "ann", [A], 200)
    assert shown.put(0, "bob", [C], 200)
    assert (times(shown, "ann", A), times(shown, "ann", B), times(shown, "ann", C)) == ([100, 200], [100], [])
    assert times(shown, "cid", A) == []
    assert len(shown) == 4


def test_an_impression_that_comes_twice_counts_once_for_its_user() -> None:
    shown = Shown()
    assert shown.put(0, "ann", [A], 100, event=5)
    assert not shown.put(0, "ann", [A], 101, event=5)
    assert shown.put(0, "bob", [A], 101, event=5)
    assert times(shown, "ann", A) == [100]
    for event in range(6, 6 + 40):
        shown.put(0, "ann", [B], 102, event)
    assert shown.put(0, "ann", [A], 103, event=5), "ids are remembered for a while only"


def test_what_counts_for_nothing_any_more_is_dropped() -> None:
    shown = Shown(keep_s=60)
    shown.put(0, "ann", [A], 100)
    shown.put(0, "ann", [B], 161)
    assert (times(shown, "ann", A), len(shown)) == ([], 1)
    shown.put(0, "bob", [B], 170)
    shown.forget_before(161)
    assert (times(shown, "ann", B), times(shown, "bob", B)) == ([], [170])


def test_memory_is_bounded_by_user_and_in_all_and_who_is_silent_longest_goes_first() -> None:
    shown = Shown(users=2, shows=SHOWS + 5)
    for n in range(2 * SHOWS):
        shown.put(0, "ann", [n], 100)
    assert len(shown) == SHOWS
    assert (times(shown, "ann", 0), times(shown, "ann", 2 * SHOWS - 1)) == ([], [100])
    shown.put(0, "bob", [A], 100)
    shown.put(0, "ann", [A], 100)
    shown.put(0, "cid", [A], 100)
    assert (times(shown, "bob", A), times(shown, "ann", A), len(shown)) == ([], [100], SHOWS + 1)
    shown.put(0, "cid", list(range(9)), 100)
    assert len(shown) == 10, "too many shows: ann's go"


def test_what_was_before_an_erasure_is_forgotten_and_a_partition_goes_with_its_users() -> None:
    shown = Shown()
    shown.put(0, "ann", [A], 100)
    shown.put(0, "ann", [A], 200)
    shown.put(1, "bob", [A], 100)
    shown.forget("ann", 100)
    assert times(shown, "ann", A) == [200]
    shown.forget("ann", 200)
    shown.forget("nobody", 200)
    assert len(shown) == 1
    shown.put(0, "ann", [A], 300)
    shown.forget_partition(1)
    assert (times(shown, "bob", A), times(shown, "ann", A)) == ([], [300])
