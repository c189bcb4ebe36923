"""One process of Strata: which roles run in it, what they share, how it starts and how it stops."""

from __future__ import annotations

import gc
import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from typing import Final

import faiss
import torch
from prometheus_client import CollectorRegistry
from threadpoolctl import threadpool_limits

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
from consumers.updater import Updater
from models.encode_queue import EncodeQueue
from models.encoder import Encoder
from models.encoder_process import EncoderProcess
from models.errors import ConfigurationError
from models.index import ItemIndex
from models.items import ItemStore
from models.kernels import faster_precision
from models.layer_view import LayerView
from models.layers import LayerLearner
from models.neighbours import Neighbours
from models.ranker import as_weights
from models.ranker_learning import RankerLearner
from models.recommender import Recommender
from models.sequence import SequenceScorer
from models.sequence_learning import SequenceLearner
from models.weights import find_model
from ops.delivery import TRANSACTION_S, exactly_once
from ops.feed import feed
from ops.probes import Probes
from ops.roles import ROLES, chosen
from ops.settings import Settings
from ops.tracing import tracing
from producers.connection import Connection
from producers.publisher import Publisher
from producers.transactions import TransactionalPublisher

log = logging.getLogger(__name__)

_MONITOR_S: Final = 0.5  # how often the encoder's statistics become metrics


class Process:
    """Some roles, a thread each, with one encoder and one HTTP address between them.

    Parameters
    ----------
    roles
        Of :data:`~ops.roles.ROLES`; all where none is named.
    registry
        Of the metrics; a fresh one where not given.

    Raises
    ------
    ConfigurationError
        If a role is unknown, or the only one is switched off.
    """

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        roles: Sequence[str] = ROLES,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.settings = settings
        self.connection = connection
        self.roles = [role for role in chosen(roles) if role != "sequence" or settings.sequence]
        if not self.roles:
            raise ConfigurationError("the role sequence is switched off: STRATA_SEQUENCE=true")
        self._tracing, self._end_tracing = tracing(settings.tracing)
        self.metrics = Metrics(registry or CollectorRegistry(), version("strata-recommender"))
        self.stages: dict[str, Stage] = {}
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        self._loops: list[Loop | FeedRole] = []
        self._publishers: list[Publisher | TransactionalPublisher] = []
        self._threads: list[threading.Thread] = []
        self._monitor: threading.Thread | None = None
        self._queue: EncodeQueue | None = None
        self.probes: Probes | None = None

    # -- start and stop -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load, connect, and set the loops going. What fails here fails before a group is joined.

        Raises
        ------
        StrataError
            With what is wrong and what to do.
        """
        settings = self.settings
        self.probes = Probes(
            self.metrics.registry,
            live=[self._dead],
            ready=[self._unready],
            host=settings.http_host,
            port=settings.http_port,
            on_ready=self.metrics.ready.set,
        )
        self.probes.start()
        encodes = bool({"catalogue", "updater"}.intersection(self.roles))
        faiss.omp_set_num_threads(1)  # the cores are the encoder's
        threadpool_limits(1, user_api="blas")
        if settings.encoder_process or not encodes:
            torch.set_num_threads(1)  # of this process; the other's are a setting
        if encodes:
            self._queue = EncodeQueue(self.encoder)
        settings.topics.ensure(self.connection, create=settings.create_topics)
        make: Mapping[str, Callable[[], Loop | FeedRole]] = {
            "catalogue": self._catalogue,
            "updater": self._updater,
            "neighbours": self._neighbours,
            "layers": self._layers,
            "ranker": self._ranker,
            "sequence": self._sequence,
            "erasure": self._erasure,
            "feed": self._feed,
        }
        self._loops = [make[role]() for role in self.roles]
        gc.collect()
        gc.freeze()  # torch and its kin stay: without this every full collection walks all of them
        if self._queue is not None:
            self._queue.start()
        self._monitor = threading.Thread(target=self._watch, name="monitor", daemon=True)
        self._monitor.start()
        self._threads = [
            threading.Thread(target=self._run, args=(loop,), name=loop.role, daemon=True) for loop in self._loops
        ]
        for thread in self._threads:
            thread.start()
        log.info(
            "running %(running)s; metrics and health at %(url)s",
            {"running": ", ".join(self.roles), "url": self.probes.url},
        )

    def stop(self) -> None:
        """Ask every loop to drain; returns at once."""
        self._stop.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until the process was asked to stop, or a role failed; True if so."""
        return self._stop.wait(timeout_s)

    def close(self) -> None:
        """Stop: drain the loops (inside 30 s), then the encoder, the producers, and the HTTP address.

        Raises
        ------
        BaseException
            What a role failed with, if one did.
        """
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._monitor is not None:
            self._monitor.join()
        if self._queue is not None:
            self._queue.close()
            if isinstance(self.encoder, EncoderProcess):
                self.encoder.close()
        for publisher in self._publishers:
            publisher.close()
        self._end_tracing()
        if self.probes is not None:
            self.probes.close()
        if self.failure is not None:
            raise self.failure

    @property
    def ready(self) -> bool:
        """Whether every role has its partitions and its tables."""
        return not self._unready()

    @property
    def feed_url(self) -> str | None:
        """Where the feed is, if it runs here."""
        return next((loop.server.url for loop in self._loops if isinstance(loop, FeedRole)), None)

    def _run(self, loop: Loop | FeedRole) -> None:
        try:
            loop.run(self._stop)
        except BaseException as error:
            if self.failure is None:
                self.failure = error
            log.error("%(role)s stopped: %(error)s", {"role": loop.role, "error": error})
            self._stop.set()  # half a process would look alive and serve stale lists

    def _dead(self) -> str | None:
        return next(filter(None, (loop.dead() for loop in self._loops)), None)

    def _unready(self) -> str | None:
        if not self._loops:
            return "starting"
        return next(filter(None, (loop.unready() for loop in self._loops)), None)

    def _watch(self) -> None:
        """Turn the encoder's statistics into metrics; models know no Prometheus."""
        queue, metrics = self._queue, self.metrics
        while queue is not None and not self._stop.wait(_MONITOR_S):
            for outlet in queue.outlets:
                metrics.encoder_queue.labels(outlet.name).set(outlet.pending)
            for batch in queue.take_stats():
                metrics.encoder_batches.inc()
                metrics.encoder_batch.observe(batch.tokens)
                metrics.encoder_seconds.observe(batch.seconds)
                metrics.encoder_errors.inc(batch.failed)
                for name, inputs in batch.inputs.items():
                    metrics.encoder_users.labels(name).inc(inputs)

    # -- the roles ----------------------------------------------------------------------------------------------

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

    def _outlet_capacity(self) -> int:
        return self.settings.encoder_queue

    def _catalogue(self) -> Loop:
        consumer = self._assigned_to("catalogue", self.settings.topics.items)
        assert self._queue is not None  # noqa: S101 (made in start for this role)
        wake = threading.Event()
        outlet = self._queue.outlet(
            "items", capacity=self._outlet_capacity(), share=self.settings.catalogue_share, on_ready=wake.set
        )
        stage = Catalogue(
            consumer,
            self.encoder,
            outlet,
            self._tables("catalogue"),
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
        assert self._queue is not None  # noqa: S101 (made in start for this role)
        wake = threading.Event()
        outlet = self._queue.outlet(
            "users",
            capacity=self._outlet_capacity(),
            share=1 - settings.catalogue_share,
            on_ready=wake.set,
            newest_first=True,
        )
        items = ItemStore(self.encoder.dimension, settings.undescribed_items)
        recommender = Recommender(
            items,
            Neighbours(items),
            ItemIndex(
                items,
                exact_below=settings.index_exact_below,
                kind=settings.index,
                precision=self.encoder.precision if self.encoder.device == "cpu" else faster_precision(),
            ),
            LayerView(items),
            settings.ranking,
            SequenceScorer(items) if settings.sequence else None,
        )
        stage = Updater(
            self.encoder,
            outlet,
            recommender,
            self._tables("updater"),
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
        self._publishers.append(publisher)
        return self._loop("updater", consumer, stage, wake, ExactlyOnce(publisher, consumer, settings.group))

    def _neighbours(self) -> Loop:
        consumer = self._assigned_to("neighbours", self.settings.topics.profiles)
        stage = NeighboursRole(
            Neighbours(ItemStore(0, self.settings.undescribed_items)),
            self._tables("neighbours"),
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
            self._tables("layers"),
            self.settings.topics,
            self._diversion("layers"),
            self.metrics,
            self.settings.layers_config,
        )
        return self._loop("layers", consumer, stage)

    def _ranker(self) -> Loop:
        consumer = self._assigned_to("ranker", self.settings.topics.ranker_updates)
        stage = RankerRole(
            RankerLearner(as_weights(self.settings.ranking.weights), self.settings.ranker_learning),
            self._tables("ranker"),
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
            self._tables("sequence"),
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
            self._tables("erasure"),
            settings.topics,
            self._diversion("erasure"),
            self.metrics,
            settings.pseudonyms,
            settings.erasure,
        )
        return self._loop("erasure", consumer, stage)

    def _feed(self) -> FeedRole:
        publisher = Publisher(self.connection, limits=self.settings.topics.limits)
        self._publishers.append(publisher)
        tables = self._tables("feed", TABLE_WAIT_S)
        return feed(self.settings, tables, publisher, self.metrics, alone="updater" not in self.roles)

    def _model_on_disk(self) -> tuple[str, int]:
        """Name of the model and length of its vectors: who only learns from them needs no model in memory."""
        files = find_model(self.settings.model, self.settings.model_sha256)
        return files.name, int(json.loads((files.path / "config.json").read_text())["hidden_size"])

    # -- what every role needs ----------------------------------------------------------------------------------

    def _assigned_to(self, role: str, topic: str) -> KafkaConsumerClient:
        consumer = KafkaConsumerClient(
            self.connection, role=role, fetch_wait_s=self.settings.tables_fetch_wait_ms / 1000
        )
        consumer.assign(consumer.partitions(topic))
        return consumer

    def _tables(self, role: str, fetch_wait_s: float | None = None) -> OpenTables:
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
            self._publishers.append(publisher)
            delivery = AtLeastOnce(publisher, consumer)
        self.stages[role] = stage
        return Loop(role, consumer, stage, delivery, self.metrics, self.settings.loop, wake=wake)
