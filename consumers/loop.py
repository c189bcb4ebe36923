"""The one poll loop of all roles: poll → stage → publish → acknowledgements → commit.

::

    consumer ──records──► stage.submit        refused? the loop holds them, pauses, and keeps polling
                          stage.poll ──Work──► delivery: 1. publish  2. acknowledgements  3. commit
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from consumers.backlog import Backlog
from consumers.checkpoint import Checkpoint
from consumers.client import Consumer, Partition
from consumers.delivery import Delivery
from consumers.liveness import Liveness
from consumers.log_watch import LogWatch
from consumers.loop_config import LoopConfig
from consumers.metrics import Metrics
from consumers.stage import Stage
from producers.errors import GroupJoinTimeout, PublishFailed, TransactionAborted

log = logging.getLogger(__name__)

_DRAIN_POLL_S: Final = 0.005


class Loop:
    """Runs one stage on one consumer.

    Parameters
    ----------
    role
        The name in logs and metrics.
    clock
        Monotonic seconds. ``time.sleep`` is only called between retries, through ``sleep``.
    wake
        Set by whoever finishes work of the stage on another thread (the encoder), so that it goes out at once.
    """

    def __init__(
        self,
        role: str,
        consumer: Consumer,
        stage: Stage,
        delivery: Delivery,
        metrics: Metrics,
        config: LoopConfig = LoopConfig(),
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        wake: threading.Event | None = None,
    ) -> None:
        self.role = role
        self._consumer = consumer
        self._stage = stage
        self._delivery = delivery
        self._metrics = metrics
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self._wake = wake
        self._more = False
        self._owned: set[Partition] = set()
        self._suspended: frozenset[Partition] = frozenset()
        self._aborted_since: float | None = None
        self._settled_at = 0.0
        self._unjoined_since: float | None = clock()
        self._next_report = 0.0
        self._joined = False
        self._stopping = False
        self._finish_by = math.inf
        self._live = Liveness(role, metrics, config.stuck_s, clock)
        self._backlog = Backlog(role, consumer, stage, metrics)
        self._watch = LogWatch(role, consumer, metrics)
        self._checkpoint = Checkpoint(
            role, stage, delivery, metrics, retry_s=config.retry_s, clock=clock, sleep=sleep, alive=self._live.beat
        )
        metrics.begin(role)

    # -- the three movements ------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Step until ``stop`` is set, then drain: finish and commit what is in flight, inside 30 s.

        An error leaves without draining: what was not committed is done again after a restart.
        """
        try:
            while not stop.is_set():
                self.step()
            self.drain()
        except BaseException as error:
            self._live.fail(error)
            raise
        finally:
            self._stopping = True
            try:
                self._stage.close()
            finally:
                self._consumer.close()

    def step(self) -> None:
        """Once around: poll, follow rebalances, submit, deliver."""
        self._live.beat()
        records = self._consumer.poll(self._patiently(), self._config.max_records)
        self._follow_rebalances()
        self._watch.guard()
        # what was polled before a revocation belongs to the next owner
        for record in records:
            if (record.topic, record.partition) in self._owned:
                self._backlog.put(record)
                self._watch.saw(record)
        self._backlog.submit(frozenset(self._owned))
        self._more = self._deliver() or bool(records)
        self._report()

    def drain(self) -> None:
        """Hand on no more records; deliver what is in flight until the stage is idle or the time is up."""
        self._stopping = True  # not ready any more
        self._finish_by = self._clock() + self._config.drain_s
        self._consumer.pause(self._owned)
        if not self._finish(self._finish_by, self._hear):
            log.warning(
                "%(role)s: %(seconds).0f s were not enough to finish; the rest is done again",
                {"role": self.role, "seconds": self._config.drain_s},
            )
        self._checkpoint.commit_again()

    def _finish(self, by: float, meanwhile: Callable[[], None] | None = None) -> bool:
        """Deliver what is in flight, whole Works only; False if time ran out, the rest is then untouched."""
        kept, self._finish_by = self._finish_by, by
        try:
            while True:
                self._live.beat()
                if meanwhile:
                    meanwhile()
                worked = self._deliver()
                if self._stage.idle() and not worked:
                    return True
                if self._clock() >= by:
                    return False
                if not worked:
                    self._sleep(_DRAIN_POLL_S)
        finally:
            self._finish_by = kept

    def _hear(self) -> None:
        self._consumer.poll(0.0, 1)  # all is paused: this keeps the membership and hears of rebalances
        self._follow_rebalances()

    # -- health -------------------------------------------------------------------------------------------------

    def dead(self) -> str | None:
        """Why the loop counts as dead, None while it moves (/livez). May be called from any thread."""
        return self._live.dead()

    def unready(self) -> str | None:
        """Why the loop is not ready, None when it is (/readyz). May be called from any thread."""
        if self._stopping:
            return f"{self.role}: stopping"
        return None if self._joined else f"{self.role}: no partitions assigned yet"

    # -- the parts of a step ------------------------------------------------------------------------------------

    def _patiently(self) -> float:
        """How long the next poll may wait. While the stage is at work the waiting is done here, where it can be cut."""
        if self._stage.idle() and not self._backlog:
            return self._config.idle_poll_s
        if self._more:
            return 0.0  # there was something just now: look again at once
        if self._wake is None:
            return self._config.busy_poll_s
        self._wake.wait(self._config.busy_poll_s)
        self._wake.clear()
        return 0.0

    def _follow_rebalances(self) -> None:
        for event in self._consumer.rebalances():
            if event.kind == "assigned":
                self._assigned(event.partitions)
            else:
                self._revoked(event.partitions, event.kind)
        self._take_up()
        self._await_join()

    def _assigned(self, partitions: frozenset[Partition]) -> None:
        if self._stopping:
            return  # they stay paused, for the next owner
        self._tell("assigned", partitions)
        self._metrics.assigned.labels(self.role).inc(len(partitions))
        self._begin(partitions)

    def _tell(self, kind: str, partitions: Iterable[Partition]) -> None:
        names = [f"{topic}-{number}" for topic, number in sorted(partitions)]
        told = {"role": self.role, "kind": kind, "count": len(names)}
        log.info("%(role)s: partitions %(kind)s", told, extra={"partitions": names})

    def _begin(self, partitions: frozenset[Partition]) -> None:
        """Restore what is known of these partitions, then fetch."""
        began = self._clock()
        with self._live.patient(self._config.restore_s):
            # first: what a predecessor left open is ended, so that the state below is the final one
            self._delivery.own(self._owned | partitions)
            restored = self._stage.assigned(partitions) or {}
        self._metrics.restore_seconds.labels(self.role).observe(self._clock() - began)
        for partition in sorted(partitions):
            contained = restored.get(partition)
            start = self._consumer.start(partition, contained)
            self._watch.expect(partition, max(start or 0, contained or 0))
        self._owned |= partitions
        self._joined = True

    def _revoked(self, partitions: frozenset[Partition], kind: str) -> None:
        if not partitions:
            return
        self._tell(kind, partitions)
        self._metrics.revoked.labels(self.role, kind).inc(len(partitions))
        self._backlog.forget(partitions)
        if kind == "revoked" and self._owned & partitions:
            self._hand_over()
        self._forget(partitions)
        self._suspended -= partitions
        self._delivery.own(self._owned)

    def _hand_over(self) -> None:
        """Finish what is in flight before partitions go: published whole, or dropped whole once the time is up.

        With cooperative assignment the next owner gets them after this member's next poll. With range assignment it
        may already have them; then the commit is refused, as it is for partitions that were lost.
        """
        began = self._clock()
        try:
            finished = self._finish(min(began + self._config.revoke_s, self._finish_by))
        except PublishFailed as failed:
            if not failed.retriable:
                raise
            self._start_over(failed)
            finished = False
        if not finished:
            log.warning(
                "%(role)s: %(seconds).1f s were not enough to finish what is revoked; the next owner does the"
                " rest again",
                {"role": self.role, "seconds": self._config.revoke_s},
            )
        self._metrics.revoke_seconds.labels(self.role).observe(self._clock() - began)

    def _forget(self, partitions: Iterable[Partition]) -> None:
        partitions = frozenset(partitions)
        self._stage.revoked(partitions)
        self._owned -= partitions
        self._backlog.forget(partitions)
        self._watch.forget(partitions)
        self._checkpoint.forget(partitions)

    def _start_over(self, error: TransactionAborted | PublishFailed) -> None:
        """What was in flight did not take effect, or nobody knows: go back to what the topics say.

        If the group moved on, the next polls tell which partitions are gone. Those that stay are restored and read
        from their committed offsets, once the membership is settled again.
        """
        now = self._clock()
        if self._aborted_since is None:
            self._aborted_since = now
        elif now - self._aborted_since > self._config.retry_s:
            raise error
        log.warning(
            "%(role)s: %(error)s; beginning again at the committed offsets", {"role": self.role, "error": error}
        )
        self._metrics.aborts.labels(self.role).inc()
        self._consumer.pause(self._owned)
        self._suspended |= self._owned
        self._settled_at = now + self._config.settle_s
        self._forget(self._owned)

    def _take_up(self) -> None:
        settled = self._consumer.joined and self._clock() >= self._settled_at
        if self._suspended and settled and not self._stopping:
            partitions, self._suspended = self._suspended, frozenset()
            self._begin(partitions)

    def _await_join(self) -> None:
        if self._stopping:
            return
        if self._consumer.joined:
            self._joined = True
            self._unjoined_since = None
            return
        now = self._clock()
        if self._unjoined_since is None:
            self._unjoined_since = now
        elif now - self._unjoined_since > self._config.join_timeout_s:
            raise GroupJoinTimeout(
                f"{self.role}: the consumer group did not complete a join within {self._config.join_timeout_s:.0f} s."
                " Another member may hang between two polls, the topics may be missing, or the broker's group"
                " coordinator may be busy; a restart is safe"
            )

    def _deliver(self) -> bool:
        """Deliver one finished Work; False if there was none."""
        work = self._stage.poll(self._clock())
        if work is None:
            self._checkpoint.commit_again()
            return False
        try:
            if self._checkpoint.deliver(work, self._finish_by):
                self._aborted_since = None
        except TransactionAborted as error:
            self._start_over(error)
        return True

    def _report(self) -> None:
        if (now := self._clock()) >= self._next_report:
            self._next_report = now + self._config.report_s
            self._watch.report(self._owned)
