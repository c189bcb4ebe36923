"""Forget what was derived, and derive it again from the log that there is."""

from __future__ import annotations

import logging
import time
from typing import Final

from kafka import TopicPartition
from kafka.admin import OffsetSpec

from producers.connection import Connection
from producers.errors import BrokerError
from producers.topics import Topics, administration

log = logging.getLogger(__name__)

_GONE_S: Final = 30.0


def rebuild(connection: Connection, topics: Topics, group: str) -> None:
    """Delete profiles, lists and all that is learned, and set the group back to the beginning of ``clicks``.

    For a log that ends before what was applied: the broker lost its tail, or is a new one. Clicks, items, vectors and
    dead letters stay as they are.

    Raises
    ------
    BrokerError
        If a worker of the group still runs (nothing has been deleted then), or the broker does not let us.
    """
    with administration(connection) as admin:
        members = admin.describe_groups([group]).get(group, {}).get("members", ())
        if members:
            raise BrokerError(
                f"group {group} still has members ({len(members)}): stop every worker before a rebuild, and wait for"
                " the session timeout after a crash"
            )
        derived = [
            topics.profiles, topics.recommendations, topics.layers, topics.neighbours, topics.ranker,
            topics.ranker_updates, topics.sequence,
        ]  # fmt: skip
        there = set(admin.list_topics())
        if present := [name for name in derived if name in there]:
            admin.delete_topics(present)
        deadline = time.monotonic() + _GONE_S
        while set(derived) & set(admin.list_topics()):
            if time.monotonic() > deadline:
                raise BrokerError(f"deleted, but still listed after {_GONE_S:.0f} s: {', '.join(derived)}")
            time.sleep(0.1)
    partitions = topics.ensure(connection)[topics.clicks]
    with administration(connection) as admin:
        beginning = {TopicPartition(topics.clicks, number): OffsetSpec.EARLIEST for number in range(partitions)}
        failed = {
            where.partition: answer["error"].__name__
            for where, answer in admin.reset_group_offsets(group, beginning).items()
            if getattr(answer["error"], "errno", 0)
        }
    if failed:
        raise BrokerError(f"the offsets of group {group} could not be set back: {failed}")
    log.info(
        "deleted %(deleted)s; group %(group)s begins again at the beginning of %(topic)s",
        {"deleted": ", ".join(derived), "group": group, "topic": topics.clicks},
    )
