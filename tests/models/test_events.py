"""The door: whatever bytes arrive, a struct or InvalidEvent comes out."""

import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidEvent
from models.events import Click, Item, Limits, decode_click, decode_item
from models.impressions import Impression, decode_impression

CLICK = {"user_id": "u1", "item_id": "i1", "ts": 1_700_000_000_000}
ITEM = {"item_id": "i1", "title": "Red shoes"}
IMPRESSION = {"user_id": "u1", "items": ["i2", "i1"], "ts": 1_700_000_000_000}


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def test_a_plain_click_is_read() -> None:
    assert decode_click(as_json(CLICK | {"event": "cart", "event_id": "e", "value": 2})) == Click(
        user_id="u1", item_id="i1", ts=1_700_000_000_000, event="cart", event_id="e", value=2.0
    )


def test_a_plain_item_is_read_and_unknown_fields_are_ignored() -> None:
    item = decode_item(as_json(ITEM | {"tags": ["a"], "colour": "red", "expires_at": "2030-01-01T00:00:00Z"}))
    assert item.tags == ("a",)
    assert item.expires_ms == 1_893_456_000_000


@pytest.mark.parametrize("ts", ["2023-11-14T22:13:20Z", "2023-11-14T23:13:20+01:00", "2023-11-14T22:13:20", 1.7e12])
def test_a_time_may_be_a_string_or_a_number(ts: object) -> None:
    assert decode_click(as_json(CLICK | {"ts": ts})).ts == 1_700_000_000_000


def test_a_structured_cloud_event_gives_its_time_and_its_id() -> None:
    envelope = {
        "specversion": "1.0",
        "id": "7",
        "source": "shop",
        "type": "click",
        "time": "2023-11-14T22:13:20Z",
        "data": {"user_id": "u1", "item_id": "i1"},
    }
    headers = [("content-type", b"application/cloudevents+json; charset=utf-8")]
    click = decode_click(as_json(envelope), headers)
    assert (click.ts, click.event_id) == (1_700_000_000_000, "shop/7")
    item = decode_item(as_json(envelope | {"data": ITEM}), headers)
    assert item == Item(item_id="i1", title="Red shoes")


def test_a_binary_cloud_event_gives_its_time_and_its_id() -> None:
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"7"),
        ("ce_source", b"shop"),
        ("ce_type", b"click"),
        ("ce_time", b"2023-11-14T22:13:20Z"),
        ("traceparent", b"\xff\xfe"),
    ]
    click = decode_click(as_json({"user_id": "u1", "item_id": "i1"}), headers)
    assert (click.ts, click.event_id) == (1_700_000_000_000, "shop/7")
    assert decode_item(as_json(ITEM), headers).title == "Red shoes"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null"),
        (b"", "value"),
        (b"\xff\xfe{}", "value"),
        (b'{"user_id": "\xff", "item_id": "i", "ts": 1}', "UTF-8"),
        (b"[" * 200_000, "value"),
        (b'{"x":' * 50_000, "deep"),
        (b'{"pad": "' + b"x" * 300_000 + b'"}', "262144"),
        (as_json([]), "object"),
        (as_json({"user_id": "u", "item_id": "i"}), "ts"),
        (as_json(CLICK | {"user_id": 7}), "user_id"),
        (as_json(CLICK | {"user_id": ""}), "user_id"),
        (as_json(CLICK | {"user_id": "  "}), "user_id"),
        (as_json(CLICK | {"user_id": "a\x00b"}), "control"),
        (as_json(CLICK | {"item_id": "a\nb"}), "control"),
        (as_json(CLICK | {"item_id": "x" * 257}), "item_id"),
        (as_json(CLICK | {"ts": "yesterday"}), "RFC 3339"),
        (as_json(CLICK | {"ts": -1}), "1970"),
        (as_json(CLICK | {"ts": 10**18}), "9999"),
        (as_json(CLICK | {"ts": 10**400}), "ts"),
        (b'{"user_id": "u", "item_id": "i", "ts": NaN}', "value"),
        (b'{"user_id": "u", "item_id": "i", "ts": 1e999}', "value"),
        (as_json(CLICK)[:-1] + b', "user_id": "somebody else"}', "user_id: given more than once"),
        (as_json(CLICK)[:-1] + b', "us\\u0065r_id": "somebody else"}', "user_id: given more than once"),
        # what Python's own reader of JSON refuses must not hide the second one
        (as_json(CLICK)[:-1] + b', "user_id": "x", "n": ' + b"9" * 5_000 + b"}", "user_id: given more than once"),
        (as_json(CLICK)[:-1] + b', "user_id": "x", "n": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", "deep"),
    ],
)
def test_a_bad_click_is_refused_with_the_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason):
        decode_click(value)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"title": " "}, "title"),
        ({"vector": []}, "vector"),
        ({"vector": ["a"]}, "vector"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"tags": "shoes"}, "tags"),
        ({"available": "yes"}, "available"),
        ({"item_id": "\u2028\x85"}, "control"),
    ],
)
def test_a_bad_item_is_refused_with_the_reason(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason):
        decode_item(as_json(ITEM | fields))


def test_a_key_may_stand_again_inside_another_field() -> None:
    assert decode_click(as_json(CLICK | {"referrer": {"user_id": "u2", "item_id": "i9"}})).user_id == "u1"


def test_the_reason_never_holds_the_payload() -> None:
    with pytest.raises(InvalidEvent) as caught:
        decode_click(as_json(CLICK | {"user_id": ["secret-name"]}))
    assert "secret-name" not in caught.value.reason


def test_the_payload_limit_is_a_setting() -> None:
    with pytest.raises(InvalidEvent, match="more than the 10"):
        decode_click(as_json(CLICK), limits=Limits(payload_bytes=10))


@given(
    st.binary(max_size=200),
    st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=40)), max_size=3),
)
def test_hostile_bytes_only_raise_invalid_event(value: bytes, headers: list[tuple[str, bytes | None]]) -> None:
    for decode in (decode_click, decode_item, decode_impression):
        try:
            decode(value, headers)
        except InvalidEvent:
            continue


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [*Click.__struct_fields__, *Item.__struct_fields__, *Impression.__struct_fields__, "data", "specversion"]
)


@given(
    st.dictionaries(NAMES, ANY, max_size=8),
    st.sampled_from([(), (("content-type", b"application/cloudevents+json"),)]),
)
def test_hostile_json_only_raises_invalid_event(
    value: dict[str, object], headers: tuple[tuple[str, bytes], ...]
) -> None:
    for decode in (decode_click, decode_item, decode_impression):
        try:
            decode(json.dumps(value).encode(), headers)
        except InvalidEvent:
            continue


@given(
    user=st.text(min_size=1, max_size=20).filter(lambda t: t.isprintable() and not t.isspace()),
    ts=st.integers(0, 2**41),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
def test_what_strata_writes_it_reads(user: str, ts: int, value: float | None) -> None:
    click = Click(user_id=user, item_id="i", ts=ts, value=value)
    assert decode_click(msgspec.json.encode(click)) == click


def click_of(**fields: object) -> Callable[[Limits], object]:
    return lambda limits: decode_click(as_json(CLICK | fields), limits=limits)


def item_of(**fields: object) -> Callable[[Limits], object]:
    return lambda limits: decode_item(as_json(ITEM | fields), limits=limits)


def impression_of(**fields: object) -> Callable[[Limits], object]:
    return lambda limits: decode_impression(as_json(IMPRESSION | fields), limits=limits)


@pytest.mark.parametrize(
    ("limit", "make"),
    [
        ("payload_bytes", lambda n: lambda limits: decode_click(as_json(CLICK).ljust(n), limits=limits)),
        ("payload_bytes", lambda n: lambda limits: decode_item(as_json(ITEM).ljust(n), limits=limits)),
        ("id_length", lambda n: click_of(user_id="é" * n)),
        ("id_length", lambda n: click_of(item_id="x" * n)),
        ("id_length", lambda n: click_of(event_id="x" * n)),
        ("id_length", lambda n: item_of(item_id="x" * n)),
        ("event_length", lambda n: click_of(event="x" * n)),
        ("title_length", lambda n: item_of(title="x" * n)),
        ("description_length", lambda n: item_of(description="x" * n)),
        ("label_length", lambda n: item_of(category="x" * n)),
        ("label_length", lambda n: item_of(tags=["a", "x" * n])),
        ("label_length", lambda n: item_of(safety=["x" * n])),
        ("labels", lambda n: item_of(tags=["x"] * n)),
        ("labels", lambda n: item_of(safety=["x"] * n)),
        ("payload_bytes", lambda n: lambda limits: decode_impression(as_json(IMPRESSION).ljust(n), limits=limits)),
        ("id_length", lambda n: impression_of(user_id="é" * n)),
        ("id_length", lambda n: impression_of(items=["a", "x" * n])),
        ("id_length", lambda n: impression_of(event_id="x" * n)),
        ("impression_items", lambda n: impression_of(items=["x"] * n)),
    ],
)
@pytest.mark.parametrize("most", [None, 80])
def test_a_limit_holds_at_its_edge_and_names_the_setting(
    limit: str, make: Callable[[int], Callable[[Limits], object]], most: int | None
) -> None:
    limits = Limits() if most is None else Limits(**{limit: most})
    edge = getattr(limits, limit)
    make(edge - 1)(limits)
    make(edge)(limits)
    with pytest.raises(InvalidEvent, match=rf"{edge + 1} .*more than the {edge} accepted \(STRATA_{limit.upper()}\)"):
        make(edge + 1)(limits)
