"""What roles are made of: each role's stage with its consumer, its tables and its way out."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Final

from consumers.catalogue import Catalogue
from consumers.delivery import AtLeastOnce, Delivery, ExactlyOnce
from consumers.diversion import Diversion
from consumers.erasure import ErasureRole
from consumers.feed.role import FeedRole
from consumers.kafka_client import TABLE_WAIT_S, KafkaConsumerClient
from consumers.layers import LayersRole
from consumers.loop import Loop
from consumers.metrics import Metrics
from consumers.neighbours import NeighboursRole
from consumers.ranker import RankerRole
from consumers.sequence import SequenceRole
from consumers.stage import Stage
from consumers.tables import Handler, OpenTables, TableReader
from consumers.tracing import Tracing
from consumers.updater import Updater
from models.encode_queue import EncodeQueue
from models.encoder import Encoder
from models.encoder_process import EncoderProcess
from models.index import ItemIndex
from models.items import ItemStore
from models.kernels import faster_product
from models.layer_view import LayerView
from models.layers import LayerLearner
from models.neighbours import Neighbours
from models.ranker_learning import RankerLearner
from models.recommender import Recommender
from models.sequence import SequenceScorer
from models.sequence_learning import SequenceLearner
from models.warm import warm
from models.weights import find_model
from ops.delivery import TRANSACTION_S, exactly_once
from ops.feed import feed
from ops.settings import Settings
from producers.connection import Connection
from producers.publisher import Publisher
from producers.transactions import TransactionalPublisher

log = logging.getLogger(__name__)

ENCODING: Final = frozenset({"catalogue", "updater"})
"""Roles that need the model in memory."""


class Assembly:
    """Makes the roles of one process, with one encoder between them.

    Parameters
    ----------
    roles
        That this process runs.
    tracing
        Of the process, for the updater's spans.

    Attributes
    ----------
    stages : dict[str, Stage]
        Of the roles made so far.
    publishers : list[Publisher | TransactionalPublisher]
        Theirs; whoever stops the process closes them.
    queue : EncodeQueue, optional
        To the encoder; None until :meth:`open_queue`.
    """

    def __init__(
        self, settings: Settings, connection: Connection, metrics: Metrics, roles: Collection[str], tracing: Tracing
    ) -> None:
        self.settings = settings
        self.connection = connection
        self.metrics = metrics
        self.stages: dict[str, Stage] = {}
        self.publishers: list[Publisher | TransactionalPublisher] = []
        self.queue: EncodeQueue | None = None
        self._roles = frozenset(roles)
        self._tracing = tracing

    def open_queue(self) -> EncodeQueue:
        """Load the model and make the queue to it; not started."""
        self.queue = EncodeQueue(self.encoder)
        return self.queue

    def make(self, role: str) -> Loop | FeedRole:
        """One of :data:`~ops.roles.ROLES`, ready to run."""
        made: Mapping[str, Callable[[], Loop | FeedRole]] = {
            "catalogue": self._catalogue,
            "updater": self._updater,
            "neighbours": self._neighbours,
            "layers": self._layers,
            "ranker": self._ranker,
            "sequence": self._sequence,
            "erasure": self._erasure,
            "feed": self._feed,
        }
        return made[role]()

    @cached_property
    def encoder(self) -> Encoder | EncoderProcess:
        """The model, loaded once for all roles."""
        settings = self.settings
        load = EncoderProcess.load if settings.encoder_process else Encoder.load
        encoder = load(
            settings.model,
            precision=settings.precision,
            device=settings.device,
            max_tokens=settings.max_tokens,
            token_budget=settings.token_budget,
            sha256=settings.model_sha256,
            threads=settings.threads,
        )
        log.info(
            "encoder %(model)s, %(precision)s on %(device)s",
            {"model": encoder.name, "precision": encoder.precision, "device": encoder.device},
        )
        return encoder

    def _catalogue(self) -> Loop:
        consumer = self._assigned_to("catalogue", self.settings.topics.items)
        assert self.queue is not None  # noqa: S101 (made for this role)
        wake = threading.Event()
        outlet = self.queue.outlet(
            "items", capacity=self.settings.encoder_queue, share=self.settings.catalogue_share, on_ready=wake.set
        )
        stage = Catalogue(
            consumer,
            self.encoder,
            outlet,
            self.tables("catalogue"),
            self.settings.topics,
            self._diversion("catalogue"),
            self.metrics,
            self.settings.catalogue,
            self.settings.limits,
        )
        return self._loop("catalogue", consumer, stage, wake)

    def _updater(self) -> Loop:
        settings = self.settings
        once = exactly_once(settings, self.connection, self.metrics)
        consumer = KafkaConsumerClient(self.connection, settings.updater_group, role="updater")
        consumer.subscribe([settings.topics.clicks])
        assert self.queue is not None  # noqa: S101 (made for this role)
        wake = threading.Event()
        outlet = self.queue.outlet(
            "users",
            capacity=self.settings.encoder_queue,
            share=1 - settings.catalogue_share,
            on_ready=wake.set,
            newest_first=True,
        )
        warm()
        items = ItemStore(self.encoder.dimension, settings.undescribed_items)
        recommender = Recommender(
            items,
            Neighbours(items),
            ItemIndex(
                items,
                exact_below=settings.index_exact_below,
                kind=settings.index,
                precision=faster_product() if settings.precision == "auto" else settings.precision,
            ),
            LayerView(items),
            settings.ranking,
            SequenceScorer(items) if settings.sequence else None,
        )
        stage = Updater(
            self.encoder,
            outlet,
            recommender,
            self.tables("updater"),
            settings.topics,
            self._diversion("updater"),
            self.metrics,
            replace(settings.updater, publish_s=TRANSACTION_S, atomic=True) if once else settings.updater,
            pseudonyms=settings.pseudonyms,
            policy=settings.policy,
            tracing=self._tracing,
        )
        if not once:
            return self._loop("updater", consumer, stage, wake)
        publisher = TransactionalPublisher(
            self.connection, limits=settings.topics.limits, timeout_s=settings.transaction_timeout_s
        )
        self.publishers.append(publisher)
        return self._loop("updater", consumer, stage, wake, ExactlyOnce(publisher, consumer, settings.group))

    def _neighbours(self) -> Loop:
        consumer = self._assigned_to("neighbours", self.settings.topics.profiles)
        stage = NeighboursRole(
            Neighbours(ItemStore(0, self.settings.undescribed_items)),
            self.tables("neighbours"),
            self.settings.topics,
            self._diversion("neighbours"),
            self.metrics,
            self.settings.neighbours_config,
        )
        return self._loop("neighbours", consumer, stage)

    def _layers(self) -> Loop:
        model, dimension = self._model_on_disk()
        consumer = self._assigned_to("layers", self.settings.topics.profiles)
        stage = LayersRole(
            LayerLearner(ItemStore(dimension, self.settings.undescribed_items), model, self.settings.layer_settings),
            self.tables("layers"),
            self.settings.topics,
            self._diversion("layers"),
            self.metrics,
            self.settings.layers_config,
        )
        return self._loop("layers", consumer, stage)

    def _ranker(self) -> Loop:
        consumer = self._assigned_to("ranker", self.settings.topics.ranker_updates)
        stage = RankerRole(
            RankerLearner(self.settings.ranking.prior, self.settings.ranker_learning),
            self.tables("ranker"),
            self.settings.topics,
            self._diversion("ranker"),
            self.metrics,
            self.settings.ranker_config,
        )
        return self._loop("ranker", consumer, stage)

    def _sequence(self) -> Loop:
        model, dimension = self._model_on_disk()
        consumer = self._assigned_to("sequence", self.settings.topics.profiles)
        stage = SequenceRole(
            SequenceLearner(ItemStore(dimension, self.settings.undescribed_items)),
            model,
            self.tables("sequence"),
            self.settings.topics,
            self._diversion("sequence"),
            self.metrics,
            self.settings.sequence_config,
        )
        return self._loop("sequence", consumer, stage)

    def _erasure(self) -> Loop:
        settings = self.settings
        consumer = KafkaConsumerClient(self.connection, settings.erasure_group, role="erasure")
        consumer.subscribe([settings.topics.erasures])
        stage = ErasureRole(
            self.tables("erasure"),
            settings.topics,
            self._diversion("erasure"),
            self.metrics,
            settings.pseudonyms,
            settings.erasure,
        )
        return self._loop("erasure", consumer, stage)

    def _feed(self) -> FeedRole:
        publisher = Publisher(self.connection, limits=self.settings.topics.limits)
        self.publishers.append(publisher)
        tables = self.tables("feed", TABLE_WAIT_S)
        return feed(self.settings, tables, publisher, self.metrics, alone="updater" not in self._roles)

    def _model_on_disk(self) -> tuple[str, int]:
        """Name of the model and length of its vectors: who only learns from them needs no model in memory."""
        files = find_model(self.settings.model, self.settings.model_sha256)
        return files.name, int(json.loads((files.path / "config.json").read_text())["hidden_size"])

    def _assigned_to(self, role: str, topic: str) -> KafkaConsumerClient:
        consumer = KafkaConsumerClient(
            self.connection, role=role, fetch_wait_s=self.settings.tables_fetch_wait_ms / 1000
        )
        consumer.assign(consumer.partitions(topic))
        return consumer

    def tables(self, role: str, fetch_wait_s: float | None = None) -> OpenTables:
        """Readers for a role; one that somebody waits for says how long a fetch may take at most."""
        wait_s = fetch_wait_s or self.settings.tables_fetch_wait_ms / 1000

        def open_tables(
            handlers: Mapping[str, Handler], numbers: Iterable[int] | None = None, *, since_ms: int | None = None
        ) -> TableReader:
            return TableReader.open(
                self.connection,
                handlers,
                self.metrics,
                role=f"{role}-tables",
                numbers=numbers,
                since_ms=since_ms,
                fetch_wait_s=wait_s,
            )

        return open_tables

    def _diversion(self, role: str) -> Diversion:
        return Diversion(role, self.settings.topics.dead_letters, self.settings.dead_letter_limits, self.metrics)

    def _loop(
        self,
        role: str,
        consumer: KafkaConsumerClient,
        stage: Stage,
        wake: threading.Event | None = None,
        delivery: Delivery | None = None,
    ) -> Loop:
        if delivery is None:
            publisher = Publisher(self.connection, limits=self.settings.topics.limits)
            self.publishers.append(publisher)
            delivery = AtLeastOnce(publisher, consumer)
        self.stages[role] = stage
        return Loop(role, consumer, stage, delivery, self.metrics, self.settings.loop, wake=wake)
