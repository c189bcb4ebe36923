"""The order to forget a user: what he did up to a moment goes, what he does later starts fresh."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from models.errors import InvalidEvent
from models.events import Id, Limits, check_length, check_text, decode_json, to_ms


class Erasure(Struct, frozen=True, kw_only=True):
    """A user's newest erasure (topic ``erasures``, key ``user_id``)."""

    user_id: str
    """As the clicks have it."""
    request_id: str
    """What the receipt is found by; never a user's id."""
    until: int
    """All that the user did up to this moment is erased, ms since the epoch."""


class ErasureIn(Struct, frozen=True, kw_only=True):
    """The value as it arrives."""

    request_id: Id
    ts: int | float | str | None = None
    """When the user asked for it; when the message was produced, if it is not given."""


_erasures: Final = msgspec.json.Decoder(ErasureIn)


def decode_erasure(key: bytes | None, value: bytes | None, produced_ms: int, limits: Limits = Limits()) -> Erasure:
    """The erasure in a message of the topic ``erasures``.

    A null value withdraws the order and holds none: the caller handles it before.

    Parameters
    ----------
    produced_ms
        When the message was produced, ms since the epoch. No erasure reaches beyond it: a request with a clock that
        runs ahead would otherwise erase, at every restart, what came after it.

    Raises
    ------
    InvalidEvent
        With the field and the reason, for everything that is not a usable erasure.
    """
    user_id = decode_key(key, limits)
    if value is None:
        raise InvalidEvent("value: null")
    if len(value) > limits.payload_bytes:
        raise InvalidEvent(
            f"value: {len(value)} bytes, more than the {limits.payload_bytes} accepted (STRATA_PAYLOAD_BYTES)"
        )
    raw = decode_json(_erasures, value)
    check_length(raw.request_id, "request_id", limits.id_length, "id_length")
    check_text(raw.request_id, "request_id")
    until = produced_ms if raw.ts is None else min(to_ms(raw.ts, "ts"), produced_ms)
    return Erasure(user_id=user_id, request_id=raw.request_id, until=until)


def decode_key(key: bytes | None, limits: Limits = Limits()) -> str:
    """The user of a message of the topic ``erasures``.

    Raises
    ------
    InvalidEvent
        If the key cannot be a user's id.
    """
    if not key:
        raise InvalidEvent("key: empty; it must be the user's id")
    try:
        user_id = key.decode()
    except UnicodeDecodeError:
        raise InvalidEvent("key: not UTF-8") from None
    check_length(user_id, "key", limits.id_length, "id_length")
    check_text(user_id, "key")
    return user_id
