"""Messages that cannot be used, kept byte for byte with the reason; and the limit to how many may be."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from models.errors import InvalidEvent, StrataError
from producers.errors import DeadLetterLimitExceeded, PublishFailed
from producers.publisher import Message
from producers.topics import DEAD_LETTER_BYTES

ORIGINAL_KEY: Final = "strata-original-key"
"""Header with the message's own key; absent where it had none."""
NULL_VALUE: Final = "strata-original-null"
"""Header of a message whose value was null: a null on the topic of dead letters deletes a letter."""

ORIGINAL_HEADERS: Final = "strata-original-headers"
"""Header that says how many of the headers are the sender's, and which of them had no value (positions from 0):
``2:1``. kafka-python reads headers without a value and cannot write them, so that they come with an empty one."""

CUT: Final = "strata-original-cut"
"""Header of a message that was too long for the topic of dead letters: the bytes of its value, key and headers. A
broker measures compressed batches, so that a few kilobytes may hold any length; what does not fit is cut, in that
order, because a letter that cannot be written would stop the worker, and all after it."""

_ROOM: Final = DEAD_LETTER_BYTES - 10_000
"""Bytes for what the sender sent; the rest is for what we say of it."""
_MESSAGE_LENGTH: Final = 500


def dead_letter(
    topic: str,
    partition: int,
    offset: int,
    timestamp: int,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]],
    error: Exception,
    dead_letters_topic: str,
) -> Message:
    """The dead letter of a message: key, value and headers as they were, and where and why it failed.

    Of a message of more than 2 MB only the beginning is kept (:data:`CUT`).

    Its key is the place of the message (:func:`letter_key`): on a compacted topic one letter can then be deleted (an
    erasure does), and one that was written twice becomes one.

    The sender's headers come first, whatever he called them, and :data:`ORIGINAL_HEADERS` says how many they are.

    The headers ``kafka_dlt-original-*`` are encoded as Spring Kafka encodes them (topic as UTF-8, partition as a
    4-byte and offset and timestamp as 8-byte big-endian integers), so that its tools can read them. The reason comes
    from Strata's own errors alone, which hold no payload; of any other exception only the class is told.

    Parameters
    ----------
    timestamp
        The record's own, ms since the epoch.
    """
    reason = str(error) if isinstance(error, StrataError) else "see the log of the worker"
    reason = "".join(c if c.isprintable() else "?" for c in reason)[:_MESSAGE_LENGTH]
    stage = stage_of(error)
    sent = tuple(headers)
    sizes = (len(value or b""), len(key or b""), sum(len(name) + len(content or b"") + 10 for name, content in sent))
    if too_long := sum(sizes) > _ROOM:
        sent = sent if sizes[2] <= _ROOM // 4 else ()
        key = key and key[: _ROOM // 4]
        value = value and value[: _ROOM // 2]
    nulls = ",".join(str(place) for place, (_, content) in enumerate(sent) if content is None)
    kept = [(name, content or b"") for name, content in sent]
    kept.append((ORIGINAL_HEADERS, f"{len(sent)}:{nulls}".encode()))
    if key is not None:
        kept.append((ORIGINAL_KEY, key))
    if value is None:
        kept.append((NULL_VALUE, b""))
    if too_long:
        kept.append((CUT, ",".join(map(str, sizes)).encode()))
    return Message(
        topic=dead_letters_topic,
        key=letter_key(topic, partition, offset),
        value=b"" if value is None else value,
        headers=(
            *kept,
            ("strata-error-stage", stage.encode()),
            ("strata-error-class", type(error).__name__.encode()),
            ("strata-error-message", reason.encode(errors="replace")),
            ("kafka_dlt-original-topic", topic.encode()),
            ("kafka_dlt-original-partition", partition.to_bytes(4, "big", signed=True)),
            ("kafka_dlt-original-offset", offset.to_bytes(8, "big", signed=True)),
            ("kafka_dlt-original-timestamp", timestamp.to_bytes(8, "big", signed=True)),
        ),
    )


def letter_key(topic: str, partition: int, offset: int) -> bytes:
    """The key of the dead letter of the message at this place.

    >>> letter_key("clicks", 3, 17)
    b'clicks/3/17'
    """
    return f"{topic}/{partition}/{offset}".encode()


def stage_of(error: Exception) -> str:
    """Where a message failed: ``decode``, ``validate``, ``apply``, or ``publish`` (the broker refuses what follows)."""
    if isinstance(error, InvalidEvent):
        return error.stage
    return "publish" if isinstance(error, PublishFailed) else "apply"


class DeadLetterLimits:
    """Stops a worker that diverts nearly everything: then the fault is in the deploy, not in the messages.

    Parameters
    ----------
    share
        Highest share of the last ``window`` messages that may be diverted, 0 … 1.
    window
        Messages over which the share is taken; before as many have been seen it does not apply.
    consecutive
        Most messages in a row that may be diverted.
    """

    def __init__(self, share: float = 0.5, window: int = 1_000, consecutive: int = 500) -> None:
        self.share = share
        self.window = window
        self.consecutive = consecutive
        self._recent: deque[bool] = deque(maxlen=window)
        self._dead = 0
        self._in_a_row = 0

    def observe(self, dead: bool) -> None:
        """Count one message.

        Raises
        ------
        DeadLetterLimitExceeded
            If it is one too many. Its offset must then not be committed.
        """
        if len(self._recent) == self.window:
            self._dead -= self._recent[0]
        self._recent.append(dead)
        self._dead += dead
        self._in_a_row = self._in_a_row + 1 if dead else 0
        if self._in_a_row > self.consecutive:
            raise DeadLetterLimitExceeded(
                f"{self._in_a_row} messages in a row were diverted to the dead letters, more than the"
                f" {self.consecutive} allowed: look at the newest of them before raising the limit"
            )
        if len(self._recent) == self.window and self._dead > self.share * self.window:
            raise DeadLetterLimitExceeded(
                f"{self._dead} of the last {self.window} messages were diverted to the dead letters, more than the"
                f" share of {self.share:g} allowed: look at the newest of them before raising the limit"
            )
