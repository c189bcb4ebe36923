"""Breaks of the stream, and what is left of what was counted before them."""

from copy import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import breaks as module
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


def told(lately: Lately[str], breaks: Breaks, *times: int) -> list[tuple[int, float, str]]:
    """What lacks after these breaks are heard of."""
    known = copy(breaks)
    breaks.add(times)
    return lately.lacking(known, breaks)


def test_what_is_remembered_is_counted_again_by_what_it_lacks() -> None:
    lately, breaks = Lately[str](), Breaks()
    assert lately.oldest == 0
    for moment in (10, 20, 30):
        lately.add(moment, f"at {moment}")
    assert lately.oldest == 10
    assert told(lately, breaks, 20) == [
        (20, pytest.approx(1 - KEPT), "at 20"),
        (30, pytest.approx(1 - KEPT), "at 30"),
    ]
    lately.add(15, "at 15, late")
    assert told(lately, breaks, 12, 25) == [
        (20, pytest.approx(KEPT - KEPT**2), "at 20"),  # has had its share of one of the two only
        (30, pytest.approx(1 - KEPT**2), "at 30"),
        (15, pytest.approx(KEPT**2 - KEPT**3), "at 15, late"),
    ]
    assert told(lately, breaks, 12) == []
    lacks = {click: share / (1 - KEPT) for _, share, click in told(lately, breaks, 5)}
    assert lacks == pytest.approx({"at 10": KEPT**3, "at 20": KEPT, "at 30": 1, "at 15, late": KEPT**2})


def test_so_much_is_remembered_and_no_more() -> None:
    lately = Lately[str]()
    for moment in range(LATELY + 5):
        lately.add(moment, "")
    assert lately.oldest == 5
    assert [moment for moment, *_ in told(lately, Breaks(), LATELY)] == list(range(LATELY, LATELY + 5))
    assert lately.oldest == 5


@given(st.lists(st.integers(1, 30), max_size=40))
def test_the_oldest_is_the_earliest_that_is_remembered_in_whatever_order_they_came(moments: list[int]) -> None:
    lately = Lately[int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LATELY", 8)
        for number, moment in enumerate(moments, 1):
            lately.add(moment, number)
            assert lately.oldest == min(moments[max(0, number - 8) : number])
