"""What an order to erase a user says, and what is left of his profile after it."""

from __future__ import annotations

import doctest
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

import models.pseudonyms
from models.erasures import decode_erasure
from models.errors import InvalidEvent
from models.events import Click, Limits
from models.items import ItemStore, item_hash
from models.profile import Profile
from models.pseudonyms import Pseudonyms
from models.records import ProfileRecord, decode

NOW = 1_700_000_000_000


def test_an_order_reaches_up_to_its_moment_and_never_beyond_its_production() -> None:
    def until(value: bytes) -> int:
        return decode_erasure(b"ann", value, NOW).until

    assert until(b'{"request_id": "r"}') == NOW
    assert until(b'{"request_id": "r", "ts": 5}') == 5
    assert until(b'{"request_id": "r", "ts": "2023-11-14T22:13:19Z"}') == NOW - 1_000
    assert until(b'{"request_id": "r", "ts": %d}' % (NOW + 1)) == NOW


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (None, b'{"request_id": "r"}', "key: empty"),
        (b"", b'{"request_id": "r"}', "key: empty"),
        (b"\xff", b'{"request_id": "r"}', "key: not UTF-8"),
        (b"x" * 257, b'{"request_id": "r"}', "key: 257 characters"),
        (b"a\x00", b'{"request_id": "r"}', "key: holds control"),
        (b"ann", None, "value: null"),
        (b"ann", b"{", "value: "),
        (b"ann", b"\xff", "value: "),
        (b"ann", b"[" * 100_000, "value: "),
        (b"ann", b'{"request_id": "r", "ts": "today"}', "ts: not an RFC 3339"),
        (b"ann", b'{"request_id": "r", "ts": 1e400}', "value: |ts: "),
        (b"ann", b'{"request_id": "\\u0007"}', "request_id: holds control"),
        (b"ann", b'{"request_id": "r"}' + b" " * 300_000, "more than the 262144"),
    ],
)
def test_a_useless_order_is_told_with_its_reason(key: bytes | None, value: bytes | None, says: str) -> None:
    with pytest.raises(InvalidEvent, match=says):
        decode_erasure(key, value, NOW)


@given(st.one_of(st.none(), st.binary()), st.one_of(st.none(), st.binary()), st.integers(-1, NOW))
def test_whatever_comes_is_an_order_or_told(key: bytes | None, value: bytes | None, produced: int) -> None:
    try:
        order = decode_erasure(key, value, produced, Limits())
    except InvalidEvent:
        return
    assert order.until <= produced


def test_a_profile_keeps_what_came_after_the_erasure_and_nothing_else() -> None:
    items, profile = ItemStore(4), Profile("ann")
    for n in range(6):
        event = "dismiss" if n == 4 else "view"
        profile.apply(Click(user_id="ann", item_id=f"i{n}", ts=NOW + 1_000 * n, event=event), n, items)
    profile.fresh, profile.layer, profile.encoded = 3, "3.5", 5
    assert profile.erase(NOW + 2_500, items)
    assert [items.ids[row] for row in profile.rows] == ["i3", "i5"]
    assert sorted(profile.seen) == sorted(item_hash(i) for i in ("i3", "i4", "i5"))
    assert (profile.clicks, profile.fresh, profile.erased) == (2, 2, NOW + 2_500)
    assert (profile.applied, profile.encoded, profile.layer, profile.vector) == (5, -1, "", None)
    back = Profile.restore("ann", decode(profile.record(items, 0), ProfileRecord), items)
    assert (back.rows, back.seen, back.erased) == (profile.rows, profile.seen, profile.erased)
    assert not profile.erase(NOW + 5_000, items)


def test_clicks_that_are_erased_are_counted_no_more() -> None:
    items, profile = ItemStore(4), Profile("ann")
    for n, item in enumerate(("tea", "tea", "rope", "tea", "tea", "rope")):
        profile.apply(Click(user_id="ann", item_id=item, ts=NOW + 1_000 * n), n, items)
    assert profile.often == {item_hash("tea"): 4, item_hash("rope"): 2}
    profile.erase(NOW + 2_500, items)
    assert profile.often == {item_hash("tea"): 2}


def test_what_was_seen_in_the_very_second_of_the_erasure_but_after_it_stays_seen() -> None:
    items, profile = ItemStore(4), Profile("ann")
    profile.apply(Click(user_id="ann", item_id="i0", ts=NOW + 100), 0, items)
    profile.apply(Click(user_id="ann", item_id="i1", ts=NOW + 300), 1, items)
    profile.erase(NOW + 200, items)
    assert list(profile.seen) == [item_hash("i1")]


def test_a_pseudonym_is_what_the_readme_says_it_is() -> None:
    assert doctest.testmod(models.pseudonyms).failed == 0
    key = b"sixteen bytes it is"
    assert Pseudonyms(key)("ann") == hmac.new(key, b"ann", hashlib.sha256).hexdigest()[:32]
    assert Pseudonyms(key)("ann") != Pseudonyms(key + b"!")("ann")
    assert key.decode() not in repr(Pseudonyms(key))
    with pytest.raises(ValueError, match="at least 16"):
        Pseudonyms(b"short")
