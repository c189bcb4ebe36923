"""Orders a user's erasure for a person, and waits until it can be seen to be done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from consumers.client import Record
from consumers.letter_index import LetterIndex
from consumers.tables import Handler, TableReader
from consumers.tombstones import TombstoneWatch, still_there
from models.erasures import decode_key
from models.errors import StrataError
from models.pseudonyms import Pseudonyms
from producers.connection import Connection
from producers.erasures import erasure_message
from producers.publisher import Publisher
from producers.topics import Topics


class NotErasedYet(StrataError):
    """An erasure was ordered, and something of the user was still there when the time was up."""


def order(connection: Connection, topics: Topics, user_id: str, request_id: str) -> int:
    """Order the erasure of all that a user did up to now; the moment, ms since the epoch.

    Raises
    ------
    InvalidEvent
        If that is no user's id.
    PublishFailed
    """
    decode_key(user_id.encode(errors="surrogatepass"))
    now = int(time.time() * 1000)
    publisher = Publisher(connection, limits=topics.limits)
    try:
        publisher.publish([erasure_message(user_id, request_id, now, topics)])
    finally:
        publisher.close()
    return now


def wait(
    connection: Connection,
    topics: Topics,
    user_id: str,
    until: int,
    pseudonyms: Pseudonyms,
    timeout_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Until profile, list and dead letters of the user are gone; the seconds that it took.

    Raises
    ------
    NotErasedYet
        With what is still there when the time is up.
    """

    def open_tables(
        handlers: Mapping[str, Handler], numbers: Iterable[int] | None = None, *, since_ms: int | None = None
    ) -> TableReader:
        return TableReader.open(connection, handlers, role="erasing", numbers=numbers, since_ms=since_ms)

    def take(record: Record) -> None:
        index.take(record)

    stored, index = pseudonyms(user_id), LetterIndex(topics)
    watch, letters = TombstoneWatch(open_tables, topics), open_tables({topics.dead_letters: take})
    began = clock()
    try:
        watch.expect({stored: until}, until)
        letters.catch_up(timeout_s)
        while True:
            watch.poll()
            letters.poll(0.05)
            missing, left = watch.missing(stored), index.of(user_id, until) + index.of(stored, until)
            if not missing and not left:
                return clock() - began
            if clock() - began > timeout_s:
                what = [f"no tombstones in {still_there(missing)}: does an updater run?"] if missing else []
                what += [f"{len(set(left))} dead letter(s): does the role erasure run?"] if left else []
                raise NotErasedYet(
                    f"ordered, but not done within {timeout_s:.0f} s ({'; '.join(what)}). The order stands: it is"
                    " carried out as soon as they run"
                )
    finally:
        watch.close()
        letters.close()
