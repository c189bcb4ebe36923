"""One process of Strata: which roles run in it, what they share, how it starts and how it stops."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Final

import faiss
import torch
from prometheus_client import CollectorRegistry
from threadpoolctl import threadpool_limits

from consumers.feed.role import FeedRole
from consumers.loop import Loop
from consumers.metrics import Metrics
from consumers.stage import Stage
from models.encoder import Encoder
from models.encoder_process import EncoderProcess
from models.errors import ConfigurationError
from ops.assembly import ENCODING, Assembly
from ops.probes import Probes
from ops.roles import ROLES, chosen
from ops.settings import Settings
from ops.tracing import tracing
from producers.connection import Connection

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
        traced, self._end_tracing = tracing(settings.tracing)
        self.metrics = Metrics(registry or CollectorRegistry(), version("strata-recommender"))
        self.assembly = Assembly(settings, connection, self.metrics, self.roles, traced)
        self.failure: BaseException | None = None
        self._one_thread = False  # whether torch has but one here
        self._stop = threading.Event()
        self._loops: list[Loop | FeedRole] = []
        self._threads: list[threading.Thread] = []
        self._monitor: threading.Thread | None = None
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
        assembly, encodes = self.assembly, not ENCODING.isdisjoint(self.roles)
        faiss.omp_set_num_threads(1)  # the cores are the encoder's
        threadpool_limits(1, user_api="blas")
        if settings.encoder_process or not encodes:
            self._one_thread = True  # of this process; the other's threads are a setting
            torch.set_num_threads(1)
        if encodes:
            assembly.open_queue()
        settings.topics.ensure(self.connection, create=settings.create_topics)
        self._loops = [assembly.make(role) for role in self.roles]
        gc.collect()
        gc.freeze()  # torch and its kin stay: without this every full collection walks all of them
        if assembly.queue is not None:
            assembly.queue.start()
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
        if self.assembly.queue is not None:
            self.assembly.queue.close()
            if isinstance(self.encoder, EncoderProcess):
                self.encoder.close()
        for publisher in self.assembly.publishers:
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
    def encoder(self) -> Encoder | EncoderProcess:
        """The model, loaded once for all roles."""
        return self.assembly.encoder

    @property
    def stages(self) -> Mapping[str, Stage]:
        """The stage of each role that runs on Kafka."""
        return self.assembly.stages

    @property
    def feed_url(self) -> str | None:
        """Where the feed is, if it runs here."""
        return next((loop.server.url for loop in self._loops if isinstance(loop, FeedRole)), None)

    def _run(self, loop: Loop | FeedRole) -> None:
        if self._one_thread:
            torch.set_num_threads(1)  # again: MKL, which multiplies in fp32, takes it for the calling thread alone
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
        queue, metrics = self.assembly.queue, self.metrics
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
