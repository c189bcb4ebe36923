"""What a role is to the loop: it takes records and gives back finished work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from consumers.client import Partition, Record
from producers.publisher import Message


@dataclass(frozen=True, slots=True)
class Work:
    """Finished work: what to write, and up to where the input is then done with."""

    messages: Sequence[Message] = ()
    offsets: Mapping[Partition, int] = field(default_factory=dict)
    """The next offset to read, by partition. Everything below it is in ``messages`` of this Work or of an earlier
    one. Empty in assign mode."""


class Stage(Protocol):
    """What a role does with its records. Every method runs on the loop's thread, none on another."""

    def assigned(self, partitions: Iterable[Partition]) -> Mapping[Partition, int] | None:
        """Partitions came: restore what is known of them.

        May block (inside ``max_poll_interval_s``): fetching begins afterwards. May return, by partition, the first
        offset that is *not* contained in what was restored: in assign mode reading begins there (at the beginning
        without); in group mode reading begins at the committed offset, and the loop stops with
        :class:`~producers.errors.LogRolledBack` if the log ends before either.
        """
        ...

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Partitions went (or were lost): drop their state and their work. Must not block.

        The stage owes: nothing of them, neither message nor offset, appears in a later :class:`Work`.
        """
        ...

    def submit(self, records: Sequence[Record]) -> int:
        """Take records, in order; returns how many were taken. Must not block.

        Fewer than all is backpressure: the loop holds the rest, pauses, keeps polling, and submits them again.
        """
        ...

    def poll(self, now: float) -> Work | None:
        """Finished work, if there is any. Must not block; called every few milliseconds while the stage is not idle.

        ``now`` is the loop's monotonic clock, s.
        """
        ...

    def published(self, work: Work) -> None:
        """A Work is acknowledged and (unless the group moved on) committed. Must not block."""
        ...

    def refused(self, work: Work, refused: Sequence[tuple[Message, str]]) -> Work | None:
        """The broker will never take these messages of the Work in hand, each with the reason. Must not block.

        Returns what goes out in place of the Work: without them, and with dead letters for the records that they
        follow from. None: it cannot do without them, and the loop stops.
        """
        ...

    def idle(self) -> bool:
        """True: nothing is in flight, so a drain may end."""
        ...

    def close(self) -> None:
        """The last call. Release threads and connections."""
        ...
