"""The role's own loop: it reads the topics, keeps the lists, and tells whoever waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from consumers.client import Record
from consumers.feed.first_lists import FirstLists
from consumers.feed.hub import Hub
from consumers.feed.server import Server
from consumers.feed.shelf import Shelf
from consumers.feed.store import ListStore, Update
from consumers.liveness import Liveness
from consumers.metrics import Metrics
from consumers.tables import Handler, OpenTables
from models.errors import InvalidEvent
from models.records import Source
from producers.topics import Topics

log = logging.getLogger(__name__)

_POLL_S: Final = 0.05
_BATCH: Final = 500
_STUCK_S: Final = 60.0
_RESTORE_S: Final = 600.0


class _Head(Struct, frozen=True):
    """What is read of a list before it is stored."""

    user_id: str
    event_ts: int
    source: Source


_heads: Final = msgspec.json.Decoder(_Head)


class FeedRole:
    """Runs on a thread as the loops of other roles do. Nothing is committed: a start reads the topic anew.

    Parameters
    ----------
    open_tables
        Makes the readers of ``recommendations``, ``vectors`` and ``layers``.
    more
        Handlers of more topics, by topic.
    clock, wall
        Monotonic; since the epoch; s.
    """

    role: Final = "feed"

    def __init__(
        self,
        open_tables: OpenTables,
        topics: Topics,
        store: ListStore,
        shelf: Shelf,
        hub: Hub,
        server: Server,
        metrics: Metrics,
        *,
        more: Mapping[str, Handler] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._open_tables = open_tables
        self._topics = topics
        self._store = store
        self._shelf = shelf
        self._hub = hub
        self.server = server
        self._metrics = metrics
        self._more = dict(more or {})
        self._wall = wall
        self._live = Liveness(self.role, metrics, _STUCK_S, clock)
        self._pending: list[Update] = []
        self._firsts = FirstLists()
        self._ready = False
        self._stopping = False
        metrics.begin(self.role)

    def run(self, stop: threading.Event) -> None:
        """Read until ``stop`` is set."""
        try:
            self.server.start()
            self._read(stop)
        except BaseException as error:
            self._live.fail(error)
            raise
        finally:
            self._stopping = True
            self.server.close()

    def _read(self, stop: threading.Event) -> None:
        topics = self._topics
        handlers: dict[str, Handler] = {
            topics.vectors: self._shelf.take_item,
            topics.layers: self._shelf.take_layer,
            topics.recommendations: self._list,
        }
        tables = self._open_tables(handlers | self._more)
        try:
            with self._live.patient(_RESTORE_S):
                tables.catch_up(_RESTORE_S)
                self._flush()
            self._ready = True
            log.info("feed at %(url)s", {"url": self.server.url})
            while not stop.is_set():
                self._live.beat()
                tables.poll(_POLL_S, _BATCH)
                self._flush()
        finally:
            tables.close()

    def _list(self, record: Record) -> None:
        user_id = (record.key or b"").decode(errors="replace")
        if record.value is None:
            update = Update(user_id, record.timestamp, -1, None)
        else:
            try:
                head = _heads.decode(record.value)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise InvalidEvent(f"Recommendation: {error}") from None
            update = Update(user_id, record.timestamp, head.source.offset, record.value)
            first = self._firsts.first(user_id, head.source)
            if self._ready:
                now = self._wall()
                self._metrics.feed_delay.observe(max(0.0, now - record.timestamp / 1000))
                if first:
                    self._metrics.feed_freshness.observe(max(0.0, now - head.event_ts / 1000))
        self._pending.append(update)
        if len(self._pending) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            taken = self._store.put(pending)
            self._hub.push((f"user/{update.user_id}", update) for update in taken)

    def dead(self) -> str | None:
        """Why the role counts as dead, None while it moves (/livez). From any thread."""
        return self._live.dead()

    def unready(self) -> str | None:
        """Why the role is not ready, None when it is (/readyz). From any thread."""
        if self._stopping:
            return "feed: stopping"
        if not self._ready:
            return "feed: the topics are not read to their ends yet"
        return self._store.unready()
