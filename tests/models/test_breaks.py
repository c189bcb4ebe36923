"""Breaks of the stream, and what is left of what was counted before them."""

import numpy as np
import pytest

from models.breaks import KEPT, LATELY, Breaks, Lately


def test_each_new_break_takes_its_share_and_a_known_one_nothing() -> None:
    breaks = Breaks()
    assert (breaks.last, breaks.left_of(5)) == (0, 1)
    assert breaks.add([]) == 1
    assert breaks.add([30, 10]) == pytest.approx(KEPT**2)
    assert breaks.add([10, 20, 30]) == pytest.approx(KEPT), "also one that was between two that are known"
    assert breaks.times == (10, 20, 30)
    assert breaks.last == 30


def test_what_is_left_depends_on_how_many_breaks_came_since() -> None:
    breaks = Breaks()
    breaks.add([10, 20])
    expected = [KEPT**2, KEPT, KEPT, 1, 1]
    np.testing.assert_allclose(breaks.left(np.array([9, 10, 19, 20, 21])), expected)
    assert [breaks.left_of(moment) for moment in (9, 10, 19, 20, 21)] == pytest.approx(expected)


def test_what_has_seen_some_breaks_keeps_the_share_of_the_others() -> None:
    breaks = Breaks()
    breaks.add([10, 20])
    assert [breaks.left_after(seen) for seen in ((), (10,), (20,), (10, 20))] == pytest.approx([KEPT**2, KEPT, KEPT, 1])


def test_a_break_that_is_too_old_to_be_remembered_is_not_new_again() -> None:
    breaks = Breaks()
    breaks.add(range(10, 30))
    assert breaks.times == tuple(range(22, 30))
    assert breaks.add([12, 21]) == 1
    assert breaks.times == tuple(range(22, 30))


def test_what_is_remembered_is_counted_again_by_what_it_lacks() -> None:
    lately, breaks = Lately[str](), Breaks()
    assert lately.oldest == 0
    for moment in (10, 20, 30):
        lately.add(moment, 1.0, f"at {moment}")
    assert lately.oldest == 10
    assert lately.lacking(breaks, breaks.add([20])) == [
        (pytest.approx(1 - KEPT), "at 20"),
        (pytest.approx(1 - KEPT), "at 30"),
    ]
    lately.add(15, KEPT, "at 15, late")
    assert lately.lacking(breaks, breaks.add([12, 25])) == [
        (pytest.approx(KEPT - KEPT**2), "at 20"),  # has had its share of one of the two only
        (pytest.approx(1 - KEPT**2), "at 30"),
        (pytest.approx(KEPT**2 - KEPT**3), "at 15, late"),
    ]
    assert lately.lacking(breaks, breaks.add([12])) == []
    lacks = lately.lacking(breaks, breaks.add([5]))
    assert dict(zip(("at 10", "at 20", "at 30", "at 15, late"), (KEPT**3, KEPT, 1, KEPT**2), strict=True)) == {
        click: pytest.approx(share / (1 - KEPT)) for share, click in lacks
    }


def test_so_much_is_remembered_and_no_more() -> None:
    lately = Lately[int]()
    for moment in range(LATELY + 5):
        lately.add(moment, 1.0, moment)
    assert lately.oldest == 5
    breaks = Breaks()
    assert len(lately.lacking(breaks, breaks.add([LATELY]))) == 5
    assert lately.oldest == 5
