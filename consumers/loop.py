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
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from consumers.client import Consumer, Partition, Record, rolled_back
from consumers.delivery import Delivery
from consumers.metrics import Metrics
from consumers.stage import Stage, Work
from producers.errors import CommitFailed, GroupJoinTimeout, LogRolledBack, PublishFailed, TransactionAborted

log = logging.getLogger(__name__)

_DRAIN_POLL_S: Final = 0.005


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """The loop's limits."""

    max_records: int = 500
    """Most records that one poll takes."""
    idle_poll_s: float = 0.1
    """How long a poll may wait for records when nothing is in flight."""
    busy_poll_s: float = 0.02
    """The same while the stage has work in flight; the loop's ``wake`` cuts it short. A poll costs .5 ms of CPU."""
    drain_s: float = 25.0
    """How long a stop may take to finish what is in flight; the rest of the 30 s is for commit and close."""
    join_timeout_s: float = 30.0
    """How long the group may take to let this member in."""
    retry_s: float = 60.0
    """How long a publish or commit that the broker does not answer is tried again."""
    settle_s: float = 2.0
    """How long to listen for a rebalance after work was aborted, before the partitions that stay are taken up again.
    A worker that was frozen hears in this time that it has been replaced."""
    stuck_s: float = 60.0
    """After so long without a step the loop counts as dead (/livez)."""
    restore_s: float = 300.0
    """The same while the stage restores newly assigned partitions."""
    report_s: float = 1.0
    """How often lag is measured."""


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
        self._held: deque[Record] = deque()
        self._paused: frozenset[Partition] = frozenset()
        self._owned: set[Partition] = set()
        self._unchecked: dict[Partition, int] = {}
        self._uncommitted: dict[Partition, int] = {}
        self._uncommitted_since = 0.0
        self._suspended: frozenset[Partition] = frozenset()
        self._aborted_since: float | None = None
        self._settled_at = 0.0
        self._unjoined_since: float | None = clock()
        self._moved_at = clock()
        self._patience = config.stuck_s
        self._next_report = 0.0
        self._joined = False
        self._stopping = False
        self._drained_by = math.inf
        self._failed: str | None = None
        self._newest: dict[Partition, int] = {}

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
            self._failed = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._stopping = True
            try:
                self._stage.close()
            finally:
                self._consumer.close()

    def step(self) -> None:
        """Once around: poll, follow rebalances, submit, deliver."""
        self._move()
        records = self._consumer.poll(self._patiently(), self._config.max_records)
        self._follow_rebalances()
        self._guard()
        # what was polled before a revocation belongs to the next owner
        for record in records:
            if (partition := (record.topic, record.partition)) in self._owned:
                self._held.append(record)
                self._newest[partition] = record.timestamp
        self._submit()
        self._more = self._deliver() or bool(records)
        self._report()

    def drain(self) -> None:
        """Hand on no more records; deliver what is in flight until the stage is idle or the time is up."""
        self._stopping = True  # not ready any more
        self._drained_by = self._clock() + self._config.drain_s
        self._consumer.pause(self._owned)
        while True:
            self._move()
            self._consumer.poll(0.0, 1)  # all is paused: this keeps the membership and hears of rebalances
            self._follow_rebalances()
            worked = self._deliver()
            if self._stage.idle() and not worked:
                break
            if self._clock() >= self._drained_by:
                log.warning(
                    "%s: %.0f s were not enough to finish; the rest is done again", self.role, self._config.drain_s
                )
                break
            if not worked:
                self._sleep(_DRAIN_POLL_S)
        self._commit_again()

    # -- health -------------------------------------------------------------------------------------------------

    def dead(self) -> str | None:
        """Why the loop counts as dead, None while it moves (/livez). May be called from any thread."""
        if self._failed:
            return f"{self.role}: {self._failed}"
        silent = self._clock() - self._moved_at
        return f"{self.role}: no step for {silent:.0f} s" if silent > self._patience else None

    def unready(self) -> str | None:
        """Why the loop is not ready, None when it is (/readyz). May be called from any thread."""
        if self._stopping:
            return f"{self.role}: stopping"
        return None if self._joined else f"{self.role}: no partitions assigned yet"

    # -- the parts of a step ------------------------------------------------------------------------------------

    def _move(self) -> None:
        self._moved_at = self._clock()
        self._metrics.heartbeat.labels(self.role).set_to_current_time()

    def _patiently(self) -> float:
        """How long the next poll may wait. While the stage is at work the waiting is done here, where it can be cut."""
        if self._stage.idle() and not self._held:
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
        log.info("%s: assigned %s", self.role, _names(partitions))
        self._metrics.assigned.labels(self.role).inc(len(partitions))
        self._begin(partitions)

    def _begin(self, partitions: frozenset[Partition]) -> None:
        """Restore what is known of these partitions, then fetch."""
        self._patience = self._config.restore_s
        began = self._clock()
        try:
            # first: what a predecessor left open is ended, so that the state below is the final one
            self._delivery.own(self._owned | partitions)
            restored = self._stage.assigned(partitions) or {}
        finally:
            self._patience = self._config.stuck_s
            self._move()
        self._metrics.restore_seconds.labels(self.role).observe(self._clock() - began)
        for partition in sorted(partitions):
            contained = restored.get(partition)
            start = self._consumer.start(partition, contained)
            self._unchecked[partition] = max(start or 0, contained or 0)
        self._owned |= partitions
        self._joined = True

    def _revoked(self, partitions: frozenset[Partition], kind: str) -> None:
        if not partitions:
            return
        log.info("%s: %s %s", self.role, kind, _names(partitions))
        self._metrics.revoked.labels(self.role, kind).inc(len(partitions))
        self._forget(partitions)
        self._suspended -= partitions
        self._delivery.own(self._owned)

    def _forget(self, partitions: Iterable[Partition]) -> None:
        partitions = frozenset(partitions)
        self._stage.revoked(partitions)
        self._owned -= partitions
        self._held = deque(r for r in self._held if (r.topic, r.partition) not in partitions)
        for partition in partitions:
            self._unchecked.pop(partition, None)
            self._uncommitted.pop(partition, None)
            self._newest.pop(partition, None)
            self._metrics.forget_lag(self.role, partition)

    def _start_over(self, error: TransactionAborted) -> None:
        """What was in flight did not take effect, or nobody knows: go back to what the topics say.

        If the group moved on, the next polls tell which partitions are gone. Those that stay are restored and read
        from their committed offsets, once the membership is settled again.
        """
        now = self._clock()
        if self._aborted_since is None:
            self._aborted_since = now
        elif now - self._aborted_since > self._config.retry_s:
            raise error
        log.warning("%s: %s; beginning again at the committed offsets", self.role, error)
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

    def _guard(self) -> None:
        """The rollback guard: no record is used before its log is known to reach what is already applied."""
        for partition, expected in list(self._unchecked.items()):
            end = self._consumer.highwater(partition)
            if end is None:
                continue
            if expected > end:
                raise LogRolledBack(rolled_back("already applied up to", {partition: expected}, {partition: end}))
            del self._unchecked[partition]

    def _submit(self) -> None:
        if self._held:
            taken = self._stage.submit(list(self._held))
            for _ in range(taken):
                self._held.popleft()
        if self._held:
            if self._paused != (owned := frozenset(self._owned)):
                self._metrics.pauses.labels(self.role).inc()
                self._consumer.pause(owned)
                self._paused = owned
        elif self._paused:
            self._consumer.resume(self._paused & self._owned)
            self._paused = frozenset()

    def _deliver(self) -> bool:
        """Deliver one finished Work; False if there was none."""
        work = self._stage.poll(self._clock())
        if work is None:
            self._commit_again()
            return False
        # an offset that waits for its commit rides along, unless this work has a later one
        offsets = self._uncommitted | dict(work.offsets)
        give_up = min(self._clock() + self._config.retry_s, self._drained_by)
        while True:
            self._metrics.publishes.labels(self.role).inc()
            self._metrics.commits.labels(self.role).inc(bool(offsets))
            try:
                self._delivery.deliver(Work(work.messages, offsets))
            except CommitFailed as error:
                self._keep(offsets, error)
            except TransactionAborted as error:
                self._start_over(error)
                return True
            except PublishFailed as failed:
                if failed.refused:
                    left = self._stage.refused(work, failed.refused)
                    if left is None:
                        raise
                    log.error("%s: %s; what it follows from goes to the dead letters", self.role, failed)
                    self._metrics.publish_failures.labels(self.role).inc()
                    work = left
                    continue
                if not failed.retriable or self._clock() > give_up:
                    raise
                log.warning("%s: %s; trying again", self.role, failed)
                self._metrics.publish_failures.labels(self.role).inc()
                self._move()
                self._sleep(0.5)
                continue
            else:
                self._uncommitted.clear()
                self._aborted_since = None
            break
        self._stage.published(work)
        return True

    def _keep(self, offsets: Mapping[Partition, int], error: CommitFailed) -> None:
        """A commit failed after the acknowledgements.

        If the group moved on, the next poll tells which partitions are gone, and their offsets go with them; those
        that stay are committed with the next work.
        """
        log.warning("%s: %s; partitions that stay are committed again", self.role, error)
        self._metrics.commit_failures.labels(self.role).inc()
        if not self._uncommitted:
            self._uncommitted_since = self._clock()
        elif self._clock() - self._uncommitted_since > self._config.retry_s:
            raise error
        self._uncommitted = dict(offsets)

    def _commit_again(self) -> None:
        if not self._uncommitted:
            return
        offsets = dict(self._uncommitted)
        try:
            self._delivery.deliver(Work((), offsets))
        except CommitFailed as error:
            self._keep(offsets, error)
        else:
            self._uncommitted.clear()

    def _report(self) -> None:
        now = self._clock()
        if now < self._next_report:
            return
        self._next_report = now + self._config.report_s
        for partition in self._owned:
            position, end = self._consumer.position(partition), self._consumer.highwater(partition)
            if position is None or end is None:
                continue
            if position > end:
                raise LogRolledBack(rolled_back("the next offset is", {partition: position}, {partition: end}))
            self._metrics.lag(self.role, partition, end - position, self._newest.get(partition))


def _names(partitions: Iterable[Partition]) -> str:
    return ", ".join(f"{topic}-{number}" for topic, number in sorted(partitions)) or "no partitions"
