"""Strata's topics: their names, shapes and settings, and how they come to be."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from producers.connection import Connection
from producers.errors import BrokerError, TopicMismatch, TopicMissing

log = logging.getLogger(__name__)

LAYERS_BYTES: Final = 8 * 1024 * 1024
"""Longest message on ``layers``: basis and centres of a large tree."""
MESSAGE_BYTES: Final = 1_000_000
"""Longest message elsewhere: a little under the broker's own default of 1,048,588 for a whole batch."""
DEAD_LETTER_BYTES: Final = 2 * MESSAGE_BYTES
"""Longest dead letter: the longest message that a broker takes by default, and the headers that say what was wrong."""

SEQUENCE_SEGMENT_BYTES: Final = 32 * 1024 * 1024
"""Segment of ``sequence``: what is written to it is compacted no sooner than it is full."""

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_NAMES: Final = (
    "items", "clicks", "impressions", "vectors", "profiles", "layers", "neighbours", "ranker", "ranker_updates",
    "sequence", "recommendations", "erasures", "dead_letters",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a topic should be."""

    name: str
    partitions: int
    config: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Topics:
    """Names and shapes of the topics.

    A name that is left empty is the prefix and its own field's name (``dead_letters`` is written ``dead-letters``);
    one that is given is used as it is, so that Strata reads a topic that already exists:
    ``Topics(prefix="strata.", clicks="shop.clickstream")``.
    """

    prefix: str = ""
    items: str = ""
    clicks: str = ""
    impressions: str = ""
    vectors: str = ""
    profiles: str = ""
    layers: str = ""
    neighbours: str = ""
    ranker: str = ""
    ranker_updates: str = ""
    sequence: str = ""
    recommendations: str = ""
    erasures: str = ""
    dead_letters: str = ""
    partitions: int = 6
    """Partitions of ``clicks``, and so of ``impressions``, ``profiles`` and ``recommendations``: as many updaters can
    share the work."""
    item_partitions: int = 3
    """Partitions of ``items`` and ``vectors``."""
    replication: int = -1
    """Copies of each partition; -1 = the broker's default."""
    dead_letter_retention_ms: int | None = None
    """How long dead letters are kept where Strata creates their topic, ms; None = the broker's default."""

    def __post_init__(self) -> None:
        for name in _NAMES:
            if not getattr(self, name):
                object.__setattr__(self, name, self.prefix + name.replace("_", "-"))

    @property
    def limits(self) -> dict[str, int]:
        """Longest message in bytes, for the topics where it is not :data:`MESSAGE_BYTES`."""
        return {self.layers: LAYERS_BYTES, self.dead_letters: DEAD_LETTER_BYTES}

    def specs(self) -> list[Spec]:
        """Every topic as it should be, inputs first."""
        compact = {"cleanup.policy": "compact"}
        # what is deleted of a user must leave the disk too: without this the newest segment, which compaction spares,
        # may keep it for a week
        soon = {"max.compaction.lag.ms": str(_DAY_MS)}
        users, items = self.partitions, self.item_partitions
        return [
            Spec(name=self.items, partitions=items, config=compact),
            Spec(name=self.clicks, partitions=users, config={"cleanup.policy": "delete"}),
            # nothing looks further back than the longest fatigue of a policy: who was shown what is not kept for longer
            Spec(
                name=self.impressions,
                partitions=users,
                config={"cleanup.policy": "delete", "retention.ms": str(7 * _DAY_MS)},
            ),
            Spec(name=self.vectors, partitions=items, config=compact),
            # the learners read every version of a profile: compaction must not outrun them
            Spec(
                name=self.profiles,
                partitions=users,
                config=compact | soon | {"min.compaction.lag.ms": str(_HOUR_MS)},
            ),
            Spec(
                name=self.layers,
                partitions=1,
                config=compact | {"max.message.bytes": str(LAYERS_BYTES + 100_000)},
            ),
            Spec(name=self.neighbours, partitions=1, config=compact),
            Spec(name=self.ranker, partitions=1, config=compact),
            # sums of gradients, worth nothing once they are in the ranker's state
            Spec(
                name=self.ranker_updates,
                partitions=1,
                config={"cleanup.policy": "delete", "retention.ms": str(24 * _HOUR_MS)},
            ),
            # a whole net every few seconds: small segments, cleaned early, or each start would read a gigabyte of them
            Spec(
                name=self.sequence,
                partitions=1,
                config=compact | {"segment.bytes": str(SEQUENCE_SEGMENT_BYTES), "min.cleanable.dirty.ratio": "0.1"},
            ),
            Spec(name=self.recommendations, partitions=users, config=compact | soon),
            Spec(name=self.erasures, partitions=1, config=compact),
            Spec(
                name=self.dead_letters,
                partitions=1,
                # compact: one letter can be deleted; delete: none is kept for ever
                config={"cleanup.policy": "compact,delete", "max.message.bytes": str(DEAD_LETTER_BYTES + 100_000)}
                | soon
                | self._dead_letter_retention(),
            ),
        ]

    def _dead_letter_retention(self) -> dict[str, str]:
        kept = self.dead_letter_retention_ms
        return {} if kept is None else {"retention.ms": str(kept)}

    def ensure(self, connection: Connection, *, create: bool = True, timeout_s: float = 30.0) -> dict[str, int]:
        """Create what is missing, check what is there; partitions by topic.

        Where ``clicks`` or ``items`` exist already, the topics that follow them are made with their number of
        partitions, whatever the settings say.

        Raises
        ------
        TopicMissing
            A topic is missing, and ``create`` is False or the broker does not let us; with the command to create it.
        TopicMismatch
            A topic has another number of partitions than the one that it must follow.
        """
        with administration(connection) as admin:
            specs = self.specs()
            there = _partitions(admin, [spec.name for spec in specs])
            users = there.get(self.clicks, self.partitions)
            items = there.get(self.items, self.item_partitions)
            wanted = dict.fromkeys((self.clicks, self.impressions, self.profiles, self.recommendations), users)
            wanted |= {self.items: items, self.vectors: items}
            specs = [
                Spec(name=spec.name, partitions=wanted.get(spec.name, spec.partitions), config=spec.config)
                for spec in specs
            ]
            self._check(specs, there)
            missing = [spec for spec in specs if spec.name not in there]
            if missing and not create:
                raise TopicMissing(self._how_to_create(missing))
            for spec in missing:
                self._create(admin, spec)
            names = [spec.name for spec in specs]
            deadline = time.monotonic() + timeout_s
            # a broker's metadata lags behind its answer to the creation
            while len(there := _partitions(admin, names)) < len(names):
                if time.monotonic() > deadline:
                    absent = ", ".join(name for name in names if name not in there)
                    raise TopicMissing(f"created, but not visible after {timeout_s:.0f} s: {absent}")
                time.sleep(0.05)
            self._check(specs, there)
            return there

    @property
    def _any_shape(self) -> tuple[str, ...]:
        """Topics that may have any number of partitions."""
        return self.neighbours, self.ranker, self.ranker_updates, self.erasures, self.dead_letters

    def _check(self, specs: list[Spec], there: dict[str, int]) -> None:
        for spec in specs:
            found = there.get(spec.name)
            if found is None or found == spec.partitions or spec.name in self._any_shape:
                continue
            leader = self.items if spec.name == self.vectors else self.clicks
            one = {self.layers: "the layers are", self.sequence: "a snapshot's parts and head are"}.get(spec.name)
            reason = f"{one} one ordered log" if one else f"{leader} has {spec.partitions}"
            rebuilt = "" if spec.name == self.impressions else " and rebuilds it from the clicks"
            raise TopicMismatch(
                f"topic {spec.name} has {found} partition(s) and must have {spec.partitions} ({reason}): a user's"
                " events, profile and list live in the same partition number. Delete it, so that Strata creates it"
                f" anew{rebuilt}, or name another one in the settings"
            )

    def _create(self, admin: Any, spec: Spec) -> None:
        shape = {
            "num_partitions": spec.partitions,
            "replication_factor": self.replication,
            "configs": spec.config,
        }
        try:
            admin.create_topics({spec.name: shape})
        except TopicAlreadyExistsError:
            return  # another process was quicker
        except KafkaError as error:
            raise TopicMissing(
                f"topic {spec.name} is missing and could not be created ({type(error).__name__}). "
                + self._how_to_create([spec])
            ) from error
        log.info(
            "created topic %(topic)s with %(partitions)d partition(s)",
            {"topic": spec.name, "partitions": spec.partitions},
        )

    def _how_to_create(self, specs: list[Spec]) -> str:
        replication = f" --replication-factor {self.replication}" if self.replication > 0 else ""
        commands = [
            f"kafka-topics.sh --create --topic {spec.name} --partitions {spec.partitions}{replication}"
            + "".join(f" --config {key}={value}" for key, value in spec.config.items())
            for spec in specs
        ]
        return "missing topics; create them with `strata topics create`, or with Kafka's own tool:\n  " + "\n  ".join(
            commands
        )


@contextmanager
def administration(connection: Connection) -> Iterator[Any]:
    """kafka-python's administrative client; what it fails with becomes a BrokerError."""
    admin = connection.open(lambda: KafkaAdminClient(**connection.client("admin")))
    try:
        yield admin
    except KafkaError as error:
        raise BrokerError(f"Kafka at {connection.bootstrap} refused an administrative request: {error}") from error
    finally:
        admin.close()


def _partitions(admin: Any, names: list[str]) -> dict[str, int]:
    """Partitions of those topics that exist and have a leader everywhere."""
    found = {}
    for topic in admin.describe_topics(names):
        error = for_code(topic["error_code"])
        if topic["error_code"] == 0 and topic["partitions"]:
            if all(partition["leader_id"] >= 0 for partition in topic["partitions"]):
                found[topic["name"]] = len(topic["partitions"])
        elif topic["error_code"] not in (0, 3, 5):  # unknown topic, no leader yet
            raise BrokerError(f"topic {topic['name']}: {error.__name__}")
    return found
