"""One Work at a time becomes durable, however often that has to be tried."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from consumers.client import Partition
from consumers.delivery import Delivery
from consumers.metrics import Metrics
from consumers.stage import Stage, Work
from producers.errors import CommitFailed, PublishFailed

log = logging.getLogger(__name__)


class Checkpoint:
    """Delivers, tries again what failed for the moment, and keeps the offsets whose commit failed.

    Parameters
    ----------
    retry_s
        How long a publish or commit that the broker does not answer is tried again, s.
    alive
        Called before each wait: the loop moves, though it does not step.
    """

    def __init__(
        self,
        role: str,
        stage: Stage,
        delivery: Delivery,
        metrics: Metrics,
        *,
        retry_s: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        alive: Callable[[], None],
    ) -> None:
        self._role = role
        self._stage = stage
        self._delivery = delivery
        self._metrics = metrics
        self._retry_s = retry_s
        self._clock = clock
        self._sleep = sleep
        self._alive = alive
        self._uncommitted: dict[Partition, int] = {}
        self._uncommitted_since = 0.0

    def deliver(self, work: Work, give_up: float) -> bool:
        """Publish and commit one Work; whether it is committed.

        Parameters
        ----------
        give_up
            When to try no more, monotonic s.

        Raises
        ------
        PublishFailed
            It cannot be published, for good or not in time.
        TransactionAborted
            It did not take effect, or nobody knows.
        CommitFailed
            No commit has worked for ``retry_s``.
        """
        # an offset that waits for its commit rides along, unless this work has a later one
        offsets = self._uncommitted | dict(work.offsets)
        give_up = min(self._clock() + self._retry_s, give_up)
        began = self._clock()
        committed = False
        while True:
            self._metrics.publishes.labels(self._role).inc()
            self._metrics.commits.labels(self._role).inc(bool(offsets))
            try:
                self._delivery.deliver(Work(work.messages, offsets))
            except CommitFailed as error:
                self._keep(offsets, error)
            except PublishFailed as failed:
                work = self._repaired(work, failed, give_up)
                continue
            else:
                self._uncommitted.clear()
                committed = True
                self._tell(work, offsets, began)
            break
        self._stage.published(work)
        return committed

    def _tell(self, work: Work, offsets: Mapping[Partition, int], began: float) -> None:
        """A line for a batch."""
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "delivered",
                extra={
                    "role": self._role,
                    "messages": dict(Counter(message.topic for message in work.messages)),
                    "offsets": {f"{topic}-{number}": offset for (topic, number), offset in offsets.items()},
                    "seconds": round(self._clock() - began, 4),
                },
            )

    def _named(self, error: Exception) -> dict[str, object]:
        return {"role": self._role, "error": error}

    def _repaired(self, work: Work, failed: PublishFailed, give_up: float) -> Work:
        """What to try next, after a wait where the same goes again."""
        if failed.refused:
            left = self._stage.refused(work, failed.refused)
            if left is None:
                raise failed
            log.error("%(role)s: %(error)s; what it follows from goes to the dead letters", self._named(failed))
            self._metrics.publish_failures.labels(self._role).inc()
            return left
        if not failed.retriable or self._clock() > give_up:
            raise failed
        log.warning("%(role)s: %(error)s; trying again", self._named(failed))
        self._metrics.publish_failures.labels(self._role).inc()
        self._alive()
        self._sleep(0.5)
        return work

    def commit_again(self) -> None:
        """Commit what could not be committed before, if there is any.

        Raises
        ------
        CommitFailed
            No commit has worked for ``retry_s``.
        """
        if not self._uncommitted:
            return
        offsets = dict(self._uncommitted)
        try:
            self._delivery.deliver(Work((), offsets))
        except CommitFailed as error:
            self._keep(offsets, error)
        else:
            self._uncommitted.clear()

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These went: whoever owns them now commits their offsets."""
        for partition in partitions:
            self._uncommitted.pop(partition, None)

    def _keep(self, offsets: Mapping[Partition, int], error: CommitFailed) -> None:
        """A commit failed after the acknowledgements.

        If the group moved on, the next poll tells which partitions are gone, and their offsets go with them; those
        that stay are committed with the next work.
        """
        log.warning("%(role)s: %(error)s; partitions that stay are committed again", self._named(error))
        self._metrics.commit_failures.labels(self._role).inc()
        if not self._uncommitted:
            self._uncommitted_since = self._clock()
        elif self._clock() - self._uncommitted_since > self._retry_s:
            raise error
        self._uncommitted = dict(offsets)
