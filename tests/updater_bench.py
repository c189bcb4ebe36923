"""An updater on topics that outlive it: the real model, ranking and queue; topics and time in the test's hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from fed_topics import Clock, Topic, by_topic, json

from consumers.client import Record
from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.stage import Work
from consumers.tracing import Carried, Tracing
from consumers.updater import Updater
from consumers.updater_config import UpdaterConfig
from models.encode_queue import EncodeQueue
from models.encoder import Encoder
from models.index import ItemIndex
from models.items import ItemStore
from models.layer_view import LayerView
from models.neighbours import Neighbours
from models.pseudonyms import Pseudonyms
from models.ranker import RankingConfig
from models.recommender import Recommender
from models.records import ItemVector, ProfileRecord, Recommendation, decode, encode
from producers.topics import Topics


class Bench:
    """An updater with all that it needs, on topics that outlive it."""

    def __init__(
        self,
        encoder: Encoder,
        topics: Topic,
        names: Topics,
        diversion: Diversion,
        metrics: Metrics,
        clock: Clock,
        config: UpdaterConfig | None = None,
        capacity: int = 64,
        pseudonyms: Pseudonyms = Pseudonyms(None),
        ranking: RankingConfig | None = None,
        tracing: Tracing = Carried(),
        policy: Path | None = None,
        newest_first: bool = False,
    ) -> None:
        self.encoder, self.topics, self.names, self.metrics, self.clock = encoder, topics, names, metrics, clock
        self.queue = EncodeQueue(encoder, clock=clock)
        items = ItemStore(encoder.dimension)
        self.items = items
        self.updater = Updater(
            encoder,
            self.queue.outlet("users", capacity=capacity, share=1, newest_first=newest_first),
            Recommender(items, Neighbours(items), ItemIndex(items), LayerView(items), ranking),
            topics.open,
            names,
            diversion,
            metrics,
            config or UpdaterConfig(),
            pseudonyms=pseudonyms,
            policy=policy,
            tracing=tracing,
            wall=clock.wall,
            clock=clock,
        )

    def assign(self, *numbers: int) -> dict[tuple[str, int], int]:
        return dict(self.updater.assigned([(self.names.clicks, n) for n in numbers]))

    def click(self, user: str, item: str, partition: int = 0, **fields: object) -> Record:
        event = {"user_id": user, "item_id": item, "ts": self.now_ms - 100} | fields
        return self.topics.append(self.names.clicks, user, json(event), partition, self.now_ms)

    def show(self, user: str, *items: str, partition: int = 0, at: int = 0, **fields: object) -> Record:
        """A page says that it has shown these; ``at``: when it was produced, ms, if not now."""
        event = {"user_id": user, "items": items, "ts": self.now_ms - 200} | fields
        return self.topics.append(self.names.impressions, user, json(event), partition, at or self.now_ms)

    @property
    def now_ms(self) -> int:
        return int(self.clock.wall() * 1000)

    def submit(self, *records: Record) -> int:
        return self.updater.submit(records)

    def encode(self) -> None:
        while self.queue.step():
            pass

    def work(self) -> Work:
        """The next Work, published; an empty one if there is none."""
        self.clock.now += 0.05
        work = self.updater.poll(self.clock.now) or Work()
        self.topics.publish(work.messages)
        self.updater.published(work)
        return work

    def lists(self, work: Work) -> list[Recommendation]:
        return [
            msgspec.json.decode(m.value or b"", type=Recommendation)
            for m in by_topic(work.messages, self.names.recommendations)
            if m.value is not None
        ]

    def profiles(self, work: Work) -> list[ProfileRecord]:
        return [decode(m.value, ProfileRecord) for m in by_topic(work.messages, self.names.profiles) if m.value]

    def tombstones(self, work: Work) -> set[tuple[str, int | None, bytes | None]]:
        """Topic, partition and key of each."""
        return {(m.topic, m.partition, m.key) for m in work.messages if m.value is None}


def fill(topics: Topic, names: Topics, shelf: Sequence[ItemVector], **fields: object) -> None:
    """Publish the shelf."""
    for i, record in enumerate(shelf):
        topics.append(names.vectors, f"i{i}", encode(msgspec.structs.replace(record, **fields)))


def restarted(bench: Bench, diversion: Diversion, **options: object) -> Bench:
    return Bench(bench.encoder, bench.topics, bench.names, diversion, bench.metrics, bench.clock, **options)  # type: ignore[arg-type]
