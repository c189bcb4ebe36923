"""The two formats that users send, items and clicks, and the decoder that stands at the door.

Both are JSON objects, plain or wrapped as `CloudEvents 1.0 <https://cloudevents.io>`_ (binary: attributes in
``ce_*`` headers; structured: one JSON envelope). Whatever bytes arrive, the decoder returns a struct or raises
:class:`~models.errors.InvalidEvent`, nothing else: msgspec alone would also let ``RecursionError``,
``UnicodeDecodeError`` and ``TypeError`` through, and accept control characters, ten-megabyte fields and NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sized
from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from models.errors import InvalidEvent

Headers = Iterable[tuple[str, bytes | None]]

_EARLIEST_MS: Final = 0
_LATEST_MS: Final = 253_402_300_799_999  # the year 9999: beyond it datetime cannot go

Id = Annotated[str, Meta(min_length=1)]
Labels = tuple[str, ...]
_Attribute = Annotated[str, Meta(max_length=2_000)]
"""Of a CloudEvent: read, and but for the id not kept."""


class Item(Struct, frozen=True, kw_only=True):
    """One item of the catalogue as the user's systems describe it (topic ``items``, key ``item_id``)."""

    item_id: Id
    title: str
    category: str = ""
    tags: Labels = ()
    description: str = ""
    available: bool = True
    expires_at: int | float | str | None = None
    """When the item stops being offered: ms since the epoch or an RFC 3339 string; ``expires_ms`` reads it."""
    safety: Labels = ()
    """Labels of harmful or restricted content (``adult``, ``alcohol`` …); a deployment blocks them by name."""
    vector: Annotated[tuple[float, ...], Meta(max_length=8_192)] | None = None
    """A vector of the user's own (an image model's, say), used as it is in place of the text's."""

    @property
    def expires_ms(self) -> int | None:
        """When the item stops being offered, ms since the epoch; None = never."""
        return None if self.expires_at is None else to_ms(self.expires_at, "expires_at")


class Click(Struct, frozen=True, kw_only=True):
    """One event of one user (topic ``clicks``, key ``user_id``)."""

    user_id: Id
    item_id: Id
    ts: int
    """When it happened, ms since the epoch, UTC."""
    event: str = "click"
    event_id: str | None = None
    """Where given, a second event of the same user with the same id counts once."""
    value: float | None = None
    """A rating, a price, a dwell time: kept, and read by kind."""


class ClickIn(Struct, frozen=True, kw_only=True):
    """A click as it arrives: the time may be a number or a string, or stand in the CloudEvents envelope."""

    user_id: Id
    item_id: Id
    ts: int | float | str | None = None
    event: Annotated[str, Meta(min_length=1)] = "click"
    event_id: Id | None = None
    value: float | None = None


class Envelope(Struct, frozen=True, kw_only=True):
    """A structured CloudEvent. ``data`` stays raw until the inner decoder reads it."""

    specversion: _Attribute
    id: Annotated[str, Meta(min_length=1, max_length=2_000)]
    source: Annotated[str, Meta(min_length=1, max_length=2_000)]
    type: _Attribute
    time: Annotated[str, Meta(max_length=64)] | None = None
    data: msgspec.Raw = msgspec.Raw()


class Limits(Struct, frozen=True):
    """What a message may measure; beyond it, it is a dead letter. Each is a setting of the same name."""

    payload_bytes: int = 262_144
    """Longest accepted value, bytes."""
    id_length: int = 256
    """Longest item, user or event id, characters."""
    event_length: int = 64
    """Longest kind of an event, characters."""
    title_length: int = 2_000
    """Longest title of an item, characters."""
    description_length: int = 20_000
    """Longest description of an item, characters."""
    label_length: int = 256
    """Longest category, tag or safety label, characters."""
    labels: int = 64
    """Tags of an item at most, and safety labels."""
    future_ms: int = 300_000
    """How far ahead of the clock a click may be stamped before its time is clamped, ms (see the updater)."""
    impression_items: int = 100
    """Items of an impression at most."""


_T = TypeVar("_T")
_items: Final = msgspec.json.Decoder(Item)
_clicks: Final = msgspec.json.Decoder(ClickIn)
_envelopes: Final = msgspec.json.Decoder(Envelope)


def decode_item(value: bytes | None, headers: Headers = (), limits: Limits = Limits()) -> Item:
    """The item in a message of the topic ``items``.

    A null value is a withdrawal and has no item: the caller handles it before.

    Raises
    ------
    InvalidEvent
        With the field and the reason, for everything that is not a usable item.
    """
    data, _ = unwrap(value, headers, limits)
    refuse_repeated(data, b"item_id")
    item = decode_json(_items, data)
    check_length(item.item_id, "item_id", limits.id_length, "id_length")
    check_text(item.item_id, "item_id")
    check_length(item.title, "title", limits.title_length, "title_length")
    check_length(item.description, "description", limits.description_length, "description_length")
    check_length(item.category, "category", limits.label_length, "label_length")
    for field, labels in (("tags", item.tags), ("safety", item.safety)):
        check_length(labels, field, limits.labels, "labels")
        for label in labels:
            check_length(label, field, limits.label_length, "label_length")
    if not item.title.strip() and not item.category.strip() and item.vector is None:
        raise InvalidEvent("title: empty, and there is neither a category nor a vector in its place", "validate")
    if item.vector is not None and not (item.vector and all(map(math.isfinite, item.vector))):
        raise InvalidEvent("vector: empty, or holds a number that is not finite", "validate")
    if item.expires_at is not None:
        to_ms(item.expires_at, "expires_at")
    return item


def decode_click(value: bytes | None, headers: Headers = (), limits: Limits = Limits()) -> Click:
    """The click in a message of the topic ``clicks``.

    Raises
    ------
    InvalidEvent
        With the field and the reason, for everything that is not a usable click.
    """
    data, envelope = unwrap(value, headers, limits)
    refuse_repeated(data, b"user_id", b"item_id", b"ts")
    raw = decode_json(_clicks, data)
    longest = limits.id_length
    if len(raw.user_id) > longest or len(raw.item_id) > longest or len(raw.event_id or "") > longest:
        for field in ("user_id", "item_id", "event_id"):
            check_length(getattr(raw, field) or "", field, longest, "id_length")
    if len(raw.event) > limits.event_length:
        check_length(raw.event, "event", limits.event_length, "event_length")
    check_text(raw.user_id, "user_id")
    check_text(raw.item_id, "item_id")
    ts, event_id = when_and_which(raw.ts, raw.event_id, envelope, longest)
    if raw.value is not None and not math.isfinite(raw.value):
        raise InvalidEvent("value: not a finite number", "validate")
    return Click(
        user_id=raw.user_id,
        item_id=raw.item_id,
        ts=ts,
        event=raw.event,
        event_id=event_id,
        value=raw.value,
    )


def when_and_which(
    ts: int | float | str | None, event_id: str | None, envelope: Envelope | None, longest: int
) -> tuple[int, str | None]:
    """Time, ms since the epoch, and id of an event: its own, or else those of its envelope.

    Raises
    ------
    InvalidEvent
        If neither says when it happened.
    """
    if envelope is not None:
        ts = envelope.time if ts is None else ts
        if event_id is None and len(name := f"{envelope.source}/{envelope.id}") <= longest:
            event_id = name
    if ts is None:
        raise InvalidEvent("ts: missing (ms since the epoch, or an RFC 3339 string)", "validate")
    return ts if type(ts) is int and _EARLIEST_MS <= ts <= _LATEST_MS else to_ms(ts, "ts"), event_id


def to_ms(when: int | float | str, field: str) -> int:
    """Milliseconds since the epoch from a number of them or an RFC 3339 string (without a zone: UTC).

    Raises
    ------
    InvalidEvent
        If it is no time, not finite, or outside the years 1970 to 9999.
    """
    if isinstance(when, str):
        try:
            moment = datetime.fromisoformat(when)
        except ValueError:
            raise InvalidEvent(f"{field}: not an RFC 3339 time", "validate") from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        try:
            when = moment.timestamp() * 1000
        except (OverflowError, ValueError):
            raise InvalidEvent(f"{field}: out of range", "validate") from None
    if isinstance(when, float):
        if not math.isfinite(when):
            raise InvalidEvent(f"{field}: not a finite number", "validate")
        when = int(when)
    if not _EARLIEST_MS <= when <= _LATEST_MS:
        raise InvalidEvent(f"{field}: outside the years 1970 to 9999", "validate")
    return when


def check_length(content: Sized, field: str, most: int, limit: str) -> None:
    """Refuse what is longer than a limit, with the name of its setting.

    Raises
    ------
    InvalidEvent
        With both.
    """
    if len(content) > most:
        what = "characters" if isinstance(content, str) else "of them"
        raise InvalidEvent(
            f"{field}: {len(content)} {what}, more than the {most} accepted (STRATA_{limit.upper()})", "validate"
        )


def check_text(text: str, field: str) -> None:
    """An id goes into keys, logs and headers: no control characters, no lone surrogates, no blank.

    Raises
    ------
    InvalidEvent
        With the field and the reason.
    """
    # isprintable is one C call; the slow look is only for what it refuses (a space is printable, U+00AD is not)
    if not text.isprintable() and any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise InvalidEvent(f"{field}: holds control characters", "validate")
    if text.isspace():
        raise InvalidEvent(f"{field}: blank", "validate")


def unwrap(value: bytes | None, headers: Headers, limits: Limits) -> tuple[bytes, Envelope | None]:
    """The JSON object itself and, for a CloudEvent, its envelope.

    Raises
    ------
    InvalidEvent
        If the value is null or too long, or the envelope is none.
    """
    if value is None:
        raise InvalidEvent("value: null")
    if len(value) > limits.payload_bytes:
        raise InvalidEvent(
            f"value: {len(value)} bytes, more than the {limits.payload_bytes} accepted (STRATA_PAYLOAD_BYTES)"
        )
    attributes: dict[str, str] = {}
    for name, content in headers:
        if content is not None and (name.startswith("ce_") or name.lower() == "content-type"):
            try:
                attributes[name.lower().removeprefix("ce_")] = content.decode()
            except UnicodeDecodeError:
                raise InvalidEvent(f"header {name[:64]!a}: not UTF-8") from None
    if attributes.get("content-type", "").startswith("application/cloudevents+json"):
        envelope = decode_json(_envelopes, value)
        if not bytes(envelope.data):
            raise InvalidEvent("data: missing in the CloudEvent")
        return bytes(envelope.data), envelope
    if "specversion" in attributes:
        try:
            known = {name: attributes[name] for name in Envelope.__struct_fields__ if name in attributes}
            return value, msgspec.convert(known, Envelope)
        except msgspec.ValidationError as error:
            raise InvalidEvent(f"CloudEvents headers: {error}") from None
    return value, None


def refuse_repeated(data: bytes, *keys: bytes) -> None:
    """JSON allows a key twice and msgspec takes the last: whose click is it then? Nobody's.

    Raises
    ------
    InvalidEvent
        If one of these keys is given more than once.
    """
    if b"\\u" not in data and all(data.count(b'"%b"' % key) < 2 for key in keys):
        return  # the usual case, .3 µs; below: a key may be spelt with escapes, a nested object hold the word again

    def once(pairs: list[tuple[str, object]]) -> None:
        names = [name for name, _ in pairs]
        for key in keys:
            if names.count(key.decode()) > 1:
                raise InvalidEvent(f"{key.decode()}: given more than once", "validate")

    try:
        # numbers are not read: Python refuses those of 4,300 digits, which msgspec takes
        json.loads(data, object_pairs_hook=once, parse_int=len, parse_float=len)
    except RecursionError:
        raise InvalidEvent("value: nested too deeply") from None
    except ValueError:
        return  # the decoder says it better


def decode_json(decoder: msgspec.json.Decoder[_T], data: bytes) -> _T:
    """What a decoder makes of these bytes.

    Raises
    ------
    InvalidEvent
        Whatever is wrong with them.
    """
    try:
        return decoder.decode(data)
    except RecursionError:
        raise InvalidEvent("value: nested too deeply") from None
    except UnicodeDecodeError:
        raise InvalidEvent("value: not UTF-8") from None
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise InvalidEvent(f"value: {error}") from None
