"""What a page has shown to a user, as users send it; the decoder refuses what that of the clicks refuses."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from models.events import (
    Headers,
    Id,
    Limits,
    check_length,
    check_text,
    decode_json,
    refuse_repeated,
    unwrap,
    when_and_which,
)


class Impression(Struct, frozen=True, kw_only=True):
    """Items that a page has shown to a user (topic ``impressions``, key ``user_id``)."""

    user_id: Id
    items: tuple[Id, ...]
    """In the order of the page, each once."""
    ts: int
    """When they were shown, ms since the epoch, UTC."""
    event_id: str | None = None
    """Where given, a second impression of the same user with the same id counts once, while the first is remembered."""


class ImpressionIn(Struct, frozen=True, kw_only=True):
    """An impression as it arrives: the time may be a number or a string, or stand in the CloudEvents envelope."""

    user_id: Id
    items: Annotated[tuple[Id, ...], Meta(min_length=1)]
    ts: int | float | str | None = None
    event_id: Id | None = None


_impressions: Final = msgspec.json.Decoder(ImpressionIn)


def decode_impression(value: bytes | None, headers: Headers = (), limits: Limits = Limits()) -> Impression:
    """The impression in a message of the topic ``impressions``, plain or as a CloudEvent.

    An item that is given more than once stands at its first place.

    Raises
    ------
    InvalidEvent
        With the field and the reason, for everything that is not a usable impression.
    """
    data, envelope = unwrap(value, headers, limits)
    refuse_repeated(data, b"user_id", b"items", b"ts")
    raw = decode_json(_impressions, data)
    check_length(raw.items, "items", limits.impression_items, "impression_items")
    check_length(raw.user_id, "user_id", limits.id_length, "id_length")
    check_length(raw.event_id or "", "event_id", limits.id_length, "id_length")
    check_text(raw.user_id, "user_id")
    for item_id in raw.items:
        check_length(item_id, "items", limits.id_length, "id_length")
        check_text(item_id, "items")
    ts, event_id = when_and_which(raw.ts, raw.event_id, envelope, limits.id_length)
    return Impression(user_id=raw.user_id, items=tuple(dict.fromkeys(raw.items)), ts=ts, event_id=event_id)
