"""The layers role: River learns the interest layers from every profile update; snapshots go to the topic ``layers``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from consumers.client import Partition, Record
from consumers.continuing import STATE, last_checkpoint
from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.stage import Work
from consumers.tables import OpenTables
from consumers.taught import vectors_into
from models.errors import ConfigurationError, InvalidEvent
from models.layers import LayerLearner
from models.records import Checkpoint, ProfileRecord, decode, encode, from_half
from producers.publisher import Message
from producers.topics import Topics

log = logging.getLogger(__name__)

"""Key of the learner's checkpoint on the topic ``layers``."""
_ROUNDING: Final = 0.01
"""How far the length of a vector of halves may be from 1."""

TREE = b"tree"
"""Key of basis and centres."""


@dataclass(frozen=True, kw_only=True)
class LayersConfig:
    """How the layers are published."""

    publish_s: float = 1.0
    """Least time between two snapshots for readers, s."""
    checkpoint_s: float = 10.0
    """Time between two checkpoints, s: what a restart learns again at most."""


class LayersRole:
    """A :class:`~consumers.stage.Stage` in assign mode on all partitions of ``profiles``.

    Parameters
    ----------
    learner
        What is learned; its :class:`~models.items.ItemStore` is fed here from ``vectors``.
    open_tables
        Makes the readers of ``vectors``, and of ``layers`` for the restart.
    wall
        The time, s since the epoch.
    """

    def __init__(
        self,
        learner: LayerLearner,
        open_tables: OpenTables,
        topics: Topics,
        diversion: Diversion,
        metrics: Metrics,
        config: LayersConfig = LayersConfig(),
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._learner = learner
        self._items = learner.items
        self._open_tables = open_tables
        self._tables = open_tables({topics.vectors: vectors_into(learner.items, learner.model)})
        self._topics = topics
        self._diversion = diversion
        self._metrics = metrics
        self._config = config
        self._wall = wall
        self._nothing = np.zeros(self._items.dimension, np.float32)
        self._offsets: dict[int, int] = {}
        self._next_publish = self._next_checkpoint = 0.0
        self._changed = False
        self._counted: dict[str, int] = {}

    def assigned(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Read the vectors, then continue from the last checkpoint."""
        self._tables.catch_up()
        self._items.recentre()
        try:
            checkpoint = last_checkpoint(self._open_tables, self._topics.layers)
            if checkpoint is not None:
                self._learner.restore(checkpoint.state)
                self._offsets = dict(checkpoint.offsets)
        except (ConfigurationError, InvalidEvent) as error:
            log.warning(
                "layers: the last checkpoint cannot be continued (%(error)s); learning starts anew", {"error": error}
            )
        log.info("layers: continuing after %(clicks)d clicks", {"clicks": self._learner.clicks})
        return {(self._topics.profiles, number): offset for number, offset in self._offsets.items()}

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Never happens in assign mode."""

    def submit(self, records: Sequence[Record]) -> int:
        """See :class:`~consumers.stage.Stage`."""
        vectors, clicked = [], []
        for record in records:
            try:
                if record.value is not None:
                    profile = decode(record.value, ProfileRecord)
                    rows, vector = self._taught(profile)
                    clicked.append(rows)
                    vectors.append(vector)
                    if 0 not in profile.damped:  # who clicks too fast would pass for a crowd that comes and goes
                        self._learner.refreshed(profile.layer_before, profile.layer)
            except Exception as error:
                self._diversion.divert(record, error)
            else:
                self._diversion.passed()
            self._offsets[record.partition] = record.offset + 1
        if vectors:
            self._learner.learn(np.stack(vectors), clicked)
            self._metrics.layer_updates.inc(len(vectors))
            self._changed = True
        return len(records)

    def _taught(self, profile: ProfileRecord) -> tuple[list[int], NDArray[np.float32]]:
        """What a profile has to teach: its new clicks, without those that came too fast, and its vector."""
        size = len(profile.history)
        damped = {size - 1 - back for back in profile.damped}
        clicked = (
            self._items.mention(profile.history[at].item_id)
            for at in range(max(0, size - profile.fresh), size)
            if at not in damped
        )
        rows = [row for row in clicked if row != self._items.nowhere]
        vector = from_half(profile.vector)
        length = float(np.linalg.norm(vector))  # one that is not finite is refused by the learner, which counts it
        if len(vector) == self._items.dimension and abs(length - 1) >= _ROUNDING:
            raise InvalidEvent("vector: not of unit length", "validate")  # one such would drag a centre away
        # none yet, or another model's, or of a click that came too fast; the other clicks count all the same
        if len(vector) != self._items.dimension or 0 in profile.damped:
            vector = self._nothing
        return rows, vector

    def poll(self, now: float) -> Work | None:
        """See :class:`~consumers.stage.Stage`."""
        if self._tables.poll():
            self._items.changed.clear()  # the index's business; there is none here
        if now < self._next_publish:
            return None
        self._next_publish = now + self._config.publish_s
        if self._items.recentre() and self._learner.follow_catalogue():
            self._changed = True
        if not self._changed and not self._diversion:
            return None
        topic = self._topics.layers
        tree, layers = self._learner.snapshot(int(self._wall() * 1000))
        messages = [Message(topic, f"layer/{info.id}".encode(), encode(info)) for info in layers]
        if tree is not None:
            messages.append(Message(topic, TREE, encode(tree)))
        if now >= self._next_checkpoint:
            self._next_checkpoint = now + self._config.checkpoint_s
            messages.append(Message(topic, STATE, encode(Checkpoint(self._offsets, self._learner.state()))))
            self._changed = False
        self._report()
        self._metrics.undescribed.labels("layers").set(self._items.undescribed)
        return Work(messages + self._diversion.take()) if messages or self._diversion else None

    def _report(self) -> None:
        stats = self._learner.stats()
        self._metrics.of_layers(stats["sizes"], stats["churn"], stats["since_ms"])
        self._metrics.layer_error.labels("fine").set(stats["error"])
        for name, metric in (("drifts", self._metrics.layer_drifts), ("revived", self._metrics.layer_reseeds)):
            metric.inc(stats[name] - self._counted.get(name, stats[name]))
            self._counted[name] = stats[name]

    def published(self, work: Work) -> None:
        """The checkpoint carries the offsets."""

    def refused(self, work: Work, refused: Sequence[tuple[Message, str]]) -> Work | None:
        """See :class:`~consumers.stage.Stage`. Readers need every one of these messages."""
        return None

    def idle(self) -> bool:
        """See :class:`~consumers.stage.Stage`. What came after the last checkpoint is learned again after a restart."""
        return True

    def close(self) -> None:
        """See :class:`~consumers.stage.Stage`."""
        self._tables.close()
