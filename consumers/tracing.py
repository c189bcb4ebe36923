"""A click's trace goes on in its list: W3C trace context in Kafka's headers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from consumers.shard import Owed
from models.records import Source
from producers.sender import Headers

PARENT: Final = "traceparent"
STATE: Final = "tracestate"
_NAMES: Final = {PARENT: PARENT, STATE: STATE, "ce_traceparent": PARENT, "ce_tracestate": STATE}
"""As every tracer writes them, and as CloudEvents' distributed tracing extension does."""
_WELL_FORMED: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LONGEST_STATE: Final = 512


def context(headers: Sequence[tuple[str, bytes | None]]) -> Headers:
    """The trace context of a record as headers; none where it is missing or malformed.

    Whoever may send clicks may write anything there, and it goes out with a list: so only what the standard allows
    (https://www.w3.org/TR/trace-context), and a state of at most 512 bytes.
    """
    found = {_NAMES[name]: value for name, value in headers if name in _NAMES and value}
    parent, state = found.get(PARENT), found.get(STATE)
    if parent is None or not _WELL_FORMED.fullmatch(parent):
        return ()
    if state is None or len(state) > _LONGEST_STATE or not all(0x20 <= byte < 0x7F for byte in state):
        return ((PARENT, parent),)
    return ((PARENT, parent), (STATE, state))


@dataclass(frozen=True, slots=True)
class Trace:
    """How one list continues the trace of its clicks."""

    headers: Headers
    """For the list's record."""
    span: Any = None
    """What :class:`Tracing` makes of it, None where nothing is recorded."""


class Tracing(Protocol):
    """What is done with the traces of clicks. Every method runs on the updater's thread."""

    def begin(self, owed: Owed) -> Trace | None:
        """A list is made for these clicks; None where none of them is traced."""
        ...

    def again(self, headers: Headers, source: Source) -> Trace:
        """A list is made again, now that BERT has read it, after one that had these headers."""
        ...

    def published(self, traces: Sequence[Trace]) -> None:
        """The lists of one batch are acknowledged."""
        ...


class Carried:
    """:class:`Tracing` that hands the newest traced click's context on as it came."""

    def begin(self, owed: Owed) -> Trace | None:
        """See :class:`Tracing`."""
        for record in reversed(owed.records):
            if headers := context(record.headers):
                return Trace(headers)
        return None

    def again(self, headers: Headers, source: Source) -> Trace:
        """See :class:`Tracing`."""
        return Trace(headers)

    def published(self, traces: Sequence[Trace]) -> None:
        """See :class:`Tracing`."""
