"""Who clicks faster than people do teaches no more than they, and is served as ever."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import models.pace
from models.events import Click
from models.items import ItemStore
from models.pace import Pace
from models.profile import Profile, ProfileLimits
from models.records import ProfileRecord, decode

START = 1_700_000_000_000


def taught(times: list[int], per_minute: int) -> list[bool]:
    pace, due, out = Pace(per_minute), 0, []
    for ts in times:
        due, teaches = pace.take(due, ts)
        out.append(teaches)
    return out


def test_the_example_runs() -> None:
    assert doctest.testmod(models.pace).failed == 0


def test_a_person_teaches_with_every_click() -> None:
    assert all(taught([START + 2_000 * n for n in range(500)], 60))
    assert all(taught([START] * 60, 60)), "a basket of one second"


@pytest.mark.parametrize("per_minute", [1, 7, 60, 600])
def test_a_machine_teaches_as_much_as_the_fastest_person(per_minute: int) -> None:
    """50 clicks a second for ten minutes."""
    learned = sum(taught([START + 20 * n for n in range(30_000)], per_minute))
    assert 10 * per_minute <= learned <= 11 * per_minute + 1


def test_no_limit_is_none() -> None:
    assert all(taught([START] * 10_000, 0))


@given(st.lists(st.integers(START, START + 10**6), max_size=300), st.integers(1, 100))
def test_in_no_minute_more_than_twice_the_rate_is_taught(times: list[int], per_minute: int) -> None:
    times = sorted(times)
    at = np.array([ts for ts, teaches in zip(times, taught(times, per_minute), strict=True) if teaches])
    for first in at:
        assert ((at >= first) & (at < first + 60_000)).sum() <= 2 * per_minute + 1


@given(st.lists(st.integers(START, START + 60_000), max_size=200), st.integers(0, 200))
def test_a_replay_and_a_restart_damp_the_same_clicks(times: list[int], stop: int) -> None:
    items, limits = ItemStore(4), ProfileLimits(pace=Pace(30))
    whole, halved = Profile("ann"), Profile("ann")
    for offset, ts in enumerate(times):
        click = Click(user_id="ann", item_id=f"i{offset % 9}", ts=ts)
        whole.apply(click, offset, items, limits)
        if offset == stop:
            halved = Profile.restore("ann", decode(halved.record(items, 0), ProfileRecord), items)
        halved.apply(click, offset, items, limits)
        halved.apply(click, offset, items, limits)  # read again
    assert (whole.paced, whole.damped) == (halved.paced, halved.damped)
    record = decode(whole.record(items, 0), ProfileRecord)
    assert all(0 <= back < len(record.history) for back in record.damped)
    assert len(record.damped) == len(whole.damped)
