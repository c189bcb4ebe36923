"""A profile takes each click once and comes back from its record as it was."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.events import Click
from models.items import ItemStore, item_hash
from models.profile import Profile, ProfileLimits
from models.records import ProfileRecord, decode


def click(item: str, ts: int = 1_000, event: str = "click", event_id: str | None = None) -> Click:
    return Click(user_id="u", item_id=item, ts=ts, event=event, event_id=event_id)


def test_a_replayed_click_changes_nothing() -> None:
    items, profile = ItemStore(4), Profile("u")
    assert profile.apply(click("a"), 5, items)
    before = profile.record(items, 0)
    assert not profile.apply(click("b"), 5, items)
    assert not profile.apply(click("b"), 4, items)
    assert profile.record(items, 0) == before


def test_the_same_event_under_a_new_offset_counts_once() -> None:
    items, profile = ItemStore(4), Profile("u")
    assert profile.apply(click("a", event_id="e1"), 5, items)
    assert not profile.apply(click("a", event_id="e1"), 6, items)
    assert (profile.clicks, profile.applied) == (1, 6)
    assert profile.apply(click("a", event_id="e2"), 7, items)


def test_a_dismissal_is_remembered_and_teaches_nothing() -> None:
    items, profile = ItemStore(4), Profile("u")
    assert profile.apply(click("a", event="dismiss"), 0, items)
    assert (profile.rows, profile.clicks, profile.fresh) == ([], 0, 0)
    assert profile.seen == {item_hash("a"): (1, "dismiss")}


def test_only_a_longer_history_is_to_be_encoded() -> None:
    items, profile = ItemStore(4), Profile("u")
    profile.apply(click("a", event_id="e1"), 0, items)
    assert profile.encoded < profile.applied
    profile.encoded = 0
    profile.apply(click("a", event_id="e1"), 1, items)
    profile.apply(click("b", event="dismiss"), 2, items)
    assert profile.encoded == profile.applied == 2
    profile.apply(click("c"), 3, items)
    profile.apply(click("d", event="dismiss"), 4, items)
    assert profile.encoded == 2, "a dismissal does not make the click before it known"


def test_the_history_and_the_memory_of_seen_items_are_bounded() -> None:
    items, profile = ItemStore(4), Profile("u")
    limits = ProfileLimits(history=3, seen=5)
    for offset in range(10):
        profile.apply(click(f"i{offset}"), offset, items, limits)
    assert [items.ids[row] for row in profile.rows] == ["i7", "i8", "i9"]
    assert len(profile.times) == len(profile.events) == len(profile.event_hashes) == 3
    assert list(profile.seen) == [int(items.hashes[items.find(f"i{n}")]) for n in range(5, 10)]
    assert (profile.fresh, profile.clicks) == (3, 10)


def test_it_counts_how_often_he_clicks_what_he_clicks_again() -> None:
    items, profile = ItemStore(4), Profile("u")
    limits = ProfileLimits(seen=2)
    for offset, one in enumerate("aba"):
        profile.apply(click(one, ts=offset), offset, items, limits)
    assert profile.often == {item_hash("a"): 2}, "what he has clicked once needs no count"
    profile.apply(click("a", event="dismiss"), 3, items, limits)
    assert profile.often == {item_hash("a"): 2}, "to say no is no click"
    profile.apply(click("a", event_id="e"), 4, items, limits)
    profile.apply(click("a", event_id="e"), 5, items, limits)
    profile.apply(click("a"), 6, items, limits)
    assert profile.often == {item_hash("a"): 3}, "a click after the dismissal is the first of the rest"
    profile.apply(click("c"), 7, items, limits)
    profile.apply(click("d"), 8, items, limits)
    assert profile.often == {}, "what is no longer remembered as seen is not counted on"


def test_a_count_beyond_what_a_record_holds_is_the_most_that_it_holds() -> None:
    items, profile = ItemStore(4), Profile("u")
    profile.seen, profile.often = {item_hash("a"): (1, "click")}, {item_hash("a"): 70_000}
    restored = Profile.restore("u", decode(profile.record(items, 0), ProfileRecord), items)
    assert restored.often == {item_hash("a"): 65_535}


clicks = st.lists(
    st.builds(
        click,
        item=st.sampled_from("abcdefgh"),
        ts=st.integers(0, 2**41),
        event=st.sampled_from(["click", "cart", "dismiss", "é"]),
        event_id=st.none() | st.sampled_from(["1", "2", "3"]),
    ),
    max_size=30,
)


@given(clicks)
def test_a_restored_profile_is_the_profile(stream: list[Click]) -> None:
    items, profile = ItemStore(4), Profile("u")
    for offset, one in enumerate(stream):
        profile.apply(one, offset, items)
    profile.vector, profile.layer, profile.fresh = np.array([0.5, 0.5, -0.5, 0.5], np.float32), "3.5", 0
    other = ItemStore(4)
    other.row("h")  # rows are a process's own: the record speaks of ids
    restored = Profile.restore("u", decode(profile.record(items, 7), ProfileRecord), other)
    assert restored.often == profile.often
    assert (profile.layer_before, restored.layer_before) == ("", "3.5"), "that record is the one before the next"
    profile.layer_before = "3.5"
    assert restored.record(other, 7) == profile.record(items, 7)
    for offset, one in enumerate(stream):
        assert not restored.apply(one, offset, other)


def test_a_record_says_which_of_its_new_clicks_were_on_items_that_were_known() -> None:
    items, profile = ItemStore(4), Profile("u")

    def again() -> tuple[int, ...]:
        record = decode(profile.record(items, 0), ProfileRecord)
        assert len(record.again_at) == len(record.again)
        return record.again

    for offset, item in enumerate("abab"):
        profile.apply(click(item, ts=(offset + 1) * 1_000), offset, items)
    assert again() == (1, 0)
    assert decode(profile.record(items, 0), ProfileRecord).again_at == (1, 2), "and when they had last been met"
    profile.fresh = 0
    assert again() == (), "they are not new any more"
    profile.apply(click("c"), 4, items)
    profile.apply(click("a"), 5, items)
    assert again() == (0,)
    assert Profile.restore("u", decode(profile.record(items, 0), ProfileRecord), items).again == {}
    profile.fresh = 0
    for offset in range(60):
        profile.apply(click("z"), 6 + offset, items)
    assert again() == tuple(range(49, -1, -1)), "no more than the history keeps"
