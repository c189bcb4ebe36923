"""A feed without a broker: its parts fed by hand, its routes asked in this process or over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
from fed_topics import Topic
from prometheus_client import CollectorRegistry

from consumers.feed.app import FeedApp
from consumers.feed.config import FeedConfig
from consumers.feed.hub import Hub
from consumers.feed.ingest import Ingest
from consumers.feed.role import FeedRole
from consumers.feed.server import Server
from consumers.feed.shelf import Shelf
from consumers.feed.store import ListStore, MemoryStore
from consumers.metrics import Metrics
from models.events import Limits
from models.index import ItemIndex
from models.items import ItemStore
from models.pseudonyms import Pseudonyms
from models.records import (
    ItemVector,
    LayerInfo,
    LayerRef,
    RankedItem,
    Reason,
    Recommendation,
    Source,
    encode,
    half,
)
from producers.publisher import Message
from producers.topics import Topics

MODEL = "m"
D = 8
KINDS = ("tea", "rope", "lamps")
LOCAL = FeedConfig(clicks=True, page=True, token="a token of sixteen", requests_per_second=0, clicks_per_second=0)


def made(user: str, *items: str, offset: int = 1, at: int = 1_000) -> bytes:
    """A list as the updater publishes it."""
    return msgspec.json.encode(
        Recommendation(
            user_id=user, generated_at=at, event_ts=at - 100, model=MODEL, layers_version=3, arm="full", encoded=True,
            source=Source("clicks", 0, offset), layer=LayerRef("0.1", "Tea · Rope"),
            items=tuple(
                RankedItem(item, item.title(), 2.0 - n / 10, Reason("Because", ("tea-0",), {"co": 2.0 - n / 10}))
                for n, item in enumerate(items)
            ),
        )
    )  # fmt: skip


class FeedBench:
    """The role's parts over topics that the test feeds."""

    def __init__(
        self,
        config: FeedConfig = LOCAL,
        store: ListStore | None = None,
        key: bytes | None = None,
        pages: Sequence[Any] = (),
        **shelf: Any,
    ) -> None:
        self.topics = Topics()
        self.fed = Topic()
        self.metrics = Metrics(CollectorRegistry())
        items = ItemStore(D)
        self.shelf = Shelf(items, ItemIndex(items), MODEL, **shelf)
        self.store = store or MemoryStore()
        self.hub = Hub(config.streams, config.buffer, self.metrics)
        self.sent: list[Message] = []
        self.refuse: Exception | None = None
        self.now = 2.0
        self.app = FeedApp(
            self.store, self.shelf, self.hub, Ingest(self._publish, config.waiting), self.topics, self.metrics,
            Pseudonyms(key), config, pages=pages, wall=lambda: self.now,
        )  # fmt: skip
        self.config = config

    def _publish(self, messages: Sequence[Message]) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.sent += messages

    def stock(self, each: int = 6) -> None:
        """Items of three kinds, and a root layer that likes tea best."""
        for kind, name in enumerate(KINDS):
            for n in range(each):
                self.item(f"{name}-{n}", kind, category=name)
        counts = np.linspace(9, 1, 3 * each, dtype="<f4")
        ids = tuple(f"{name}-{n}" for name in KINDS for n in range(each))
        info = LayerInfo(
            id="root", label="everybody", size=1, epoch=0, items=ids,
            counts=np.repeat(counts[:, None], 2, axis=1).tobytes(), totals=(99.0, 99.0), half_lives=(300.0, 50_000.0),
            titles=ids[:3], since_ms=1_000, joined=0.25,
        )  # fmt: skip
        self.fed.append(self.topics.layers, "layer/root", encode(info), at=777)

    def item(self, item_id: str, kind: int = 0, **fields: Any) -> None:
        """Put an item on offer, or change it."""
        draw = np.random.default_rng(abs(hash(item_id)) % 1000)
        vector = np.eye(D)[kind] + draw.normal(size=D) * 0.1
        known = {"title": item_id.title(), "model": MODEL} | fields
        record = ItemVector(text_hash=b"", tokens=b"", vector=half(vector / np.linalg.norm(vector)), **known)
        self.fed.append(self.topics.vectors, item_id, encode(record))

    def put(self, user: str, value: bytes | None, at: int = 0) -> None:
        """A record of the topic of lists."""
        self.fed.append(self.topics.recommendations, user, value, at=at)

    @contextmanager
    def role(self) -> Iterator[FeedRole]:
        """The role on its thread, answering on a real socket."""
        server = Server(self.app.asgi, "127.0.0.1", 0, self.config.streams, self.hub.close)
        role = FeedRole(
            self.fed.open, self.topics, self.store, self.shelf, self.hub, server, self.metrics, wall=lambda: self.now
        )
        stop, failed = threading.Event(), list[BaseException]()

        def run() -> None:
            try:
                role.run(stop)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run, name="feed")
        thread.start()
        try:
            while role.unready() and not failed:
                threading.Event().wait(0.01)
            yield role
        finally:
            stop.set()
            thread.join(20)
            assert not thread.is_alive(), "the role did not stop"
            assert not failed, failed


def limits(**given: int) -> Limits:
    return Limits(**given)
