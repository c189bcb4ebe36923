"""Impressions at the door. Hostile bytes and the limits stand in tests/models/test_events.py, with those of clicks."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidEvent
from models.impressions import Impression, decode_impression

IMPRESSION = {"user_id": "u1", "items": ["i2", "i1"], "ts": 1_700_000_000_000}


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("ts", ["2023-11-14T22:13:20Z", "2023-11-14T23:13:20+01:00", 1.7e12, 1_700_000_000_000])
def test_an_impression_is_read_in_the_order_of_the_page(ts: object) -> None:
    made = decode_impression(as_json(IMPRESSION | {"ts": ts, "event_id": "e", "page": "home"}))
    assert made == Impression(user_id="u1", items=("i2", "i1"), ts=1_700_000_000_000, event_id="e")


def test_an_item_that_stands_twice_on_the_page_is_shown_once() -> None:
    assert decode_impression(as_json(IMPRESSION | {"items": ["b", "a", "b"]})).items == ("b", "a")


def test_a_cloud_event_gives_its_time_and_its_id() -> None:
    data = {"user_id": "u1", "items": ["i1"]}
    envelope = {"specversion": "1.0", "id": "7", "source": "shop", "type": "shown", "time": "2023-11-14T22:13:20Z"}
    structured = decode_impression(
        as_json(envelope | {"data": data}), [("content-type", b"application/cloudevents+json")]
    )
    headers = [(f"ce_{name}", value.encode()) for name, value in envelope.items()]
    for made in (structured, decode_impression(as_json(data), headers)):
        assert (made.ts, made.event_id) == (1_700_000_000_000, "shop/7")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null"),
        (b"", "value"),
        (b"\xff\xfe{}", "value"),
        (b'{"x":' * 50_000, "deep"),
        (b'{"pad": "' + b"x" * 300_000 + b'"}', "262144"),
        (as_json([]), "object"),
        (as_json({"user_id": "u", "items": ["i"]}), "ts: missing"),
        (as_json({"user_id": "u", "ts": 1}), "items"),
        (as_json(IMPRESSION | {"items": []}), "items"),
        (as_json(IMPRESSION | {"items": "i1"}), "items"),
        (as_json(IMPRESSION | {"items": ["i1", 7]}), "items"),
        (as_json(IMPRESSION | {"items": ["i1", ""]}), "items"),
        (as_json(IMPRESSION | {"items": ["i1", " "]}), "items: blank"),
        (as_json(IMPRESSION | {"items": ["i1", "a\x00b"]}), "items: holds control"),
        (as_json(IMPRESSION | {"items": ["x"] * 101}), "STRATA_IMPRESSION_ITEMS"),
        (as_json(IMPRESSION | {"user_id": "a\x00b"}), "user_id: holds control"),
        (as_json(IMPRESSION | {"ts": -1}), "1970"),
        (b'{"user_id": "u", "items": ["i"], "ts": 1e999}', "value"),
        (as_json(IMPRESSION)[:-1] + b', "user_id": "somebody else"}', "user_id: given more than once"),
        (as_json(IMPRESSION)[:-1] + b', "it\\u0065ms": ["x"]}', "items: given more than once"),
        (as_json(IMPRESSION)[:-1] + b', "ts": 5}', "ts: given more than once"),
    ],
)
def test_a_bad_impression_is_refused_with_the_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason):
        decode_impression(value)


WORDS = st.text(min_size=1, max_size=20).filter(lambda t: t.isprintable() and not t.isspace())


@given(user=WORDS, items=st.lists(WORDS, min_size=1, max_size=9, unique=True), ts=st.integers(0, 2**41))
def test_what_strata_writes_it_reads(user: str, items: list[str], ts: int) -> None:
    impression = Impression(user_id=user, items=tuple(items), ts=ts, event_id="e")
    assert decode_impression(msgspec.json.encode(impression)) == impression
