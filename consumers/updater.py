"""The updater role: clicks in, refreshed lists and profiles out.

::

    submit   decode → apply to the profile → owe the user a list → hand his history to the encoder
    poll     what the encoder finished, and who has waited too long for it → user vector → layer, rank → Work
             who is to be forgotten → tombstones; whose list holds what is not on offer any more → his list again
             what the clicks teach the ranker

A list never waits for the encoder beyond its deadline: then it is made from the cached item vectors (``encoded:
false``) and made again when the encoder has room. An offset is committed once a published list contains its click.

What a click changes is in :mod:`consumers.applying`, whose list is due in :mod:`consumers.due`, how the lists are made
and what follows once the broker has or refuses them in :mod:`consumers.batch`; here is what happens when.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from consumers.admission import Admission
from consumers.applying import Applying
from consumers.batch import Batch
from consumers.client import Partition, Record
from consumers.diversion import Diversion
from consumers.due import Due
from consumers.erased import Erased
from consumers.feedback import Feedback
from consumers.forgetting import Forgetting
from consumers.impressions import Impressions
from consumers.in_flight import InFlight
from consumers.knowledge import Knowledge
from consumers.lists import ListMaker
from consumers.metrics import Metrics
from consumers.policy import PolicyWatch
from consumers.reencoder import Reencoder
from consumers.restoring import restore
from consumers.shard import Shard
from consumers.stage import Work
from consumers.striking import Striking
from consumers.tables import OpenTables
from consumers.teaching import Teaching
from consumers.tracing import Carried, Tracing
from consumers.updater_config import UpdaterConfig
from models.encode_queue import Outlet
from models.encoder import Tokenises
from models.pseudonyms import Pseudonyms
from models.recommender import Recommender
from producers.publisher import Message
from producers.topics import Topics


class Updater:
    """A :class:`~consumers.stage.Stage` in a consumer group on ``clicks``.

    Parameters
    ----------
    outlet
        The encoder's queue.
    recommender
        With its tables, which this stage feeds.
    open_tables
        Makes the readers of ``vectors``, of what is learned, of ``erasures``, ``impressions``, and of ``profiles`` for
        a restore.
    pseudonyms
        The names that users are stored by.
    policy
        Which file of rules is followed.
    tracing
        What becomes of the traces that clicks belong to.
    wall
        The time, s since the epoch.
    clock
        Monotonic, s; the one that the loop hands to :meth:`poll`.
    """

    def __init__(
        self,
        encoder: Tokenises,
        outlet: Outlet,
        recommender: Recommender,
        open_tables: OpenTables,
        topics: Topics,
        diversion: Diversion,
        metrics: Metrics,
        config: UpdaterConfig = UpdaterConfig(),
        *,
        pseudonyms: Pseudonyms = Pseudonyms(None),
        policy: Path | None = None,
        tracing: Tracing = Carried(),
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recommender = recommender
        self._items = recommender.items
        self._topics = topics
        self._diversion = diversion
        self._metrics = metrics
        self._config = config
        self._wall = wall
        self._clock = clock
        self._shards: dict[int, Shard] = {}
        self._reencoder = Reencoder(encoder, outlet, recommender.items, config.encoded_clicks)
        self._knowledge = Knowledge(recommender, encoder.name, open_tables, topics, metrics)
        self._policy = PolicyWatch(policy, recommender, metrics, pseudonyms)
        self._striking = Striking(recommender, open_tables, topics, metrics)
        self._erased = Erased(open_tables, topics.erasures, pseudonyms, config.limits, wall)
        self._forgetting = Forgetting(
            self._erased, topics, self._items, metrics, config.retention_s, config.atomic, wall
        )
        self._admission = Admission(self._erased, pseudonyms, config.limits, metrics)
        self._feedback = Feedback(recommender, metrics, config.profile.negative_events)
        self._impressions = Impressions(
            recommender, self._shards, self._erased, pseudonyms, open_tables, topics, metrics, config.limits, wall
        )
        self._teaching = Teaching(recommender, config.learning, topics, metrics)
        self._due = Due(self._shards, self._reencoder, self._striking, self._impressions, config)
        self._applying = Applying(recommender.items, self._due, self._feedback, self._teaching, metrics, config)
        lists = ListMaker(recommender, topics, encoder.name, config.list_length, tracing)
        self._batch = Batch(
            lists, self._due, self._teaching, self._striking, diversion, tracing, topics, metrics, wall, clock
        )
        self._open_tables = open_tables
        self._committed: dict[int, int] = {}
        self._next_publish = 0.0
        self._in_flight = InFlight(config.in_flight_bytes)

    # -- partitions ---------------------------------------------------------------------------------------------

    def assigned(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Read the tables to their ends, then restore the profiles of these partitions."""
        self._knowledge.catch_up(self._config.tables_timeout_s)
        self._erased.catch_up(self._config.tables_timeout_s)
        fresh = restore(
            [number for _, number in partitions],
            self._open_tables,
            self._topics.profiles,
            self._items,
            self._config.hot_profiles,
            self._config.list_length,
            self._metrics,
            timeout_s=self._config.tables_timeout_s,
            clock=self._clock,
        )
        concerned = self._forgetting.restored(fresh, self._shards)
        self._shards.update(fresh)
        self._due.forgotten(concerned)
        self._striking.assigned(fresh)
        self._impressions.assigned(fresh)
        return {(self._topics.clicks, n): shard.applied + 1 for n, shard in fresh.items() if shard.applied >= 0}

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Forget these partitions' users and their work."""
        partitions = list(partitions)
        for _, number in partitions:
            if self._shards.pop(number, None) is None:
                continue
            self._committed.pop(number, None)
            self._forgetting.forget_partition(number)
            self._striking.forget_partition(number)
            self._impressions.forget_partition(number)
            self._reencoder.forget_partition(number)
            self._in_flight.forget(number)
            self._due.forget_partition(number)
        self._diversion.forget(partitions)

    # -- clicks -------------------------------------------------------------------------------------------------

    def submit(self, records: Sequence[Record]) -> int:
        """See :class:`~consumers.stage.Stage`. Refuses while too many users wait for a list, or too long clicks."""
        room = self._config.owed_users - sum(len(shard.owed) for shard in self._shards.values())
        taken = records[: max(0, room)]
        now, wall_ms = self._clock(), int(self._wall() * 1000)
        for number, shard in self._shards.items():
            if (below := shard.committable()) is not None:
                self._in_flight.settled(number, below)
        for at, record in enumerate(taken):
            if self._in_flight.full:
                taken = taken[:at]
                break
            shard = self._shards[record.partition]
            try:
                click = self._admission.admit(record, shard, wall_ms)
                if click is None:
                    pass
                elif self._applying.full(shard, click, record.offset):
                    taken = taken[:at]
                    break
                else:
                    self._applying.apply(shard, click, record, now)
            except Exception as error:
                self._diversion.divert(record, error)
            else:
                self._diversion.passed()
            self._in_flight.took(record)
            self._committed.setdefault(shard.partition, record.offset)
            shard.next_offset = record.offset + 1
        self._metrics.clicks.inc(len(taken))
        self._metrics.undescribed.labels("updater").set(self._items.undescribed)
        self._due.offer()
        return len(taken)

    # -- lists --------------------------------------------------------------------------------------------------

    def poll(self, now: float) -> Work | None:
        """See :class:`~consumers.stage.Stage`."""
        self._knowledge.follow(now)
        self._policy.follow(now, int(self._wall() * 1000))
        self._impressions.follow(now)
        self._feedback.survey(now, int(self._wall() * 1000), self._shards)
        self._due.forgotten(self._forgetting.follow(now, self._shards))
        self._due.follow(now, int(self._wall() * 1000))
        if now < self._next_publish:
            return None
        messages = self._forgetting.take(self._shards)
        messages += self._batch.make(self._due.first())
        done = self._done_below()
        below = {number: offset for (_, number), offset in done.items()}
        messages += self._teaching.take(below, int(self._wall() * 1000))
        messages += self._diversion.take(done)
        offsets = {}
        for partition, offset in done.items():
            if offset > self._committed.get(partition[1], -1):
                offsets[partition] = self._committed[partition[1]] = offset
        if not messages and not offsets:
            return None
        self._next_publish = now + self._config.publish_s
        return Work(messages, offsets)

    def _done_below(self) -> dict[Partition, int]:
        """By partition, the offset below which every click is in a published list, or in the Work in hand."""
        below = ((n, shard.committable()) for n, shard in self._shards.items())
        return {(self._topics.clicks, n): offset for n, offset in below if offset is not None}

    def published(self, work: Work) -> None:
        """Count how fresh the lists were when the broker had them."""
        self._batch.published()

    def refused(self, work: Work, refused: Sequence[tuple[Message, str]]) -> Work | None:
        """See :class:`~consumers.stage.Stage`. The users concerned are as before, their clicks in the dead letters."""
        kept = self._batch.refused(work.messages, refused)
        if kept is None:
            return None
        return Work(kept + self._diversion.take(self._done_below()), work.offsets)

    def idle(self) -> bool:
        """See :class:`~consumers.stage.Stage`. Users who were served without the encoder do not hold up a stop."""
        waiting = self._due or self._diversion or self._forgetting
        return not waiting and all(not shard.owed for shard in self._shards.values())

    def close(self) -> None:
        """See :class:`~consumers.stage.Stage`."""
        self._knowledge.close()
        self._erased.close()
        self._striking.close()
        self._impressions.close()
