"""What a role reads through: records, rebalances, and the small interface behind which a Kafka client stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

Partition = tuple[str, int]
"""Topic and partition number."""


class Record(NamedTuple):
    """A message as it was read."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """When it was produced (or appended), ms since the epoch."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Rebalance(NamedTuple):
    """Partitions that came or went."""

    kind: Literal["assigned", "revoked", "lost"]
    partitions: frozenset[Partition]


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """How a member behaves in its consumer group."""

    group: str
    instance: str | None = None
    """A name that survives a restart (static membership): a restart within the session makes no rebalance."""
    session_timeout_s: float = 6.0
    """Silence after which the group gives the partitions away. The embedded broker takes half of it for a join."""
    heartbeat_s: float = 1.5
    max_poll_interval_s: float = 300.0
    """Longest time between two polls, a restore included."""
    fetch_wait_s: float = 0.05
    """Longest wait of a fetch for data. Apache Kafka answers as soon as there is some; the embedded broker looks again
    only after half of it, so there this is the delay of a click (50 ms: p50 9 ms; 500 ms: p50 129 ms)."""
    first_start: Literal["earliest", "latest"] = "earliest"
    """Where to begin in a partition for which the group has never committed an offset."""
    assignment: Literal["cooperative-sticky", "range"] = "cooperative-sticky"
    """Cooperative: a member keeps working on the partitions that it keeps."""


class Consumer(Protocol):
    """What the loop and the tables need. All methods are called on one thread, the loop's."""

    def poll(self, timeout_s: float, max_records: int) -> list[Record]:
        """Records of the started partitions, in offset order within a partition; blocks up to the timeout."""
        ...

    def rebalances(self) -> list[Rebalance]:
        """What happened to the assignment since the last call, in order. Never blocks."""
        ...

    def start(self, partition: Partition, contained: int | None = None) -> int | None:
        """Begin fetching an assigned partition.

        In assign mode at ``contained``, the first offset that restored state does not contain (None: at the
        beginning). In group mode at the committed offset; where there is none, by the policy for a first start, or,
        if there is state and so this is no first start, at the beginning (a replay changes nothing).

        Returns the offset where it begins (None: at the beginning).
        """
        ...

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Fetch no more from these until resumed; polling goes on."""
        ...

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Undo :meth:`pause`."""
        ...

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit the next offsets to read; blocks until acknowledged. Raises CommitFailed."""
        ...

    def position(self, partition: Partition) -> int | None:
        """The next offset to fetch, None while unknown. Never blocks."""
        ...

    def highwater(self, partition: Partition) -> int | None:
        """The offset that the next message of the partition will get, as of the last fetch. Never blocks."""
        ...

    @property
    def joined(self) -> bool:
        """Whether the assignment (which may be empty) is known."""
        ...

    def close(self) -> None:
        """Leave the group and close the connections. Commits nothing."""
        ...


def rolled_back(what: str, offsets: Mapping[Partition, int | None], ends: Mapping[Partition, int] | None = None) -> str:
    """The message of :class:`~producers.errors.LogRolledBack`: what lies beyond which log's end, and the way out."""
    told = ", ".join(
        f"{topic}-{number} ({what}{'' if at is None else f' {at}'}"
        + (f", log ends at {ends[topic, number]}" if ends and (topic, number) in ends else "")
        + ")"
        for (topic, number), at in offsets.items()
    )
    return (
        f"the log ends before what has already been read: {told}. The broker lost its tail, or this is another broker"
        " than the one that the offsets and profiles belong to. Check that STRATA_KAFKA_BOOTSTRAP and the topic names"
        " are right; if they are, stop every worker and start one with `strata run --rebuild`: it deletes what Strata"
        " derived (profiles, recommendations, neighbours, layers) and derives it again from the log that there is"
    )
