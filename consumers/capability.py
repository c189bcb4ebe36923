"""Can this broker's transactions be believed? Found out at start, by aborting a record and looking for it."""

from __future__ import annotations

import time
from typing import Final

from kafka.errors import KafkaError

from consumers.kafka_client import KafkaConsumerClient
from models.errors import StrataError
from producers.connection import Connection
from producers.sender import Message
from producers.transactions import TransactionalPublisher

_KEY: Final = b"transaction-probe"
_TIMEOUT_S: Final = 10.0


def why_no_transactions(connection: Connection, topic: str, transactional_id: str) -> str | None:
    """Abort one record and read its partition as a reader of committed records does.

    Parameters
    ----------
    topic
        A topic of Strata's own whose readers take no notice of a tombstone (``layers``): where the broker shows what
        was aborted, this leaves one tombstone behind.
    transactional_id
        For the probe alone.

    Returns
    -------
    str or None
        None: aborted records stay hidden. Otherwise what was seen.
    """
    publisher = TransactionalPublisher(connection, timeout_s=_TIMEOUT_S)
    try:
        publisher.take(transactional_id)
        offset = publisher.abort_one(Message(topic, _KEY, None, 0))
    except (StrataError, KafkaError, TimeoutError) as error:
        return f"a transaction cannot be aborted ({error})"
    finally:
        publisher.close()
    reader = KafkaConsumerClient(connection, role="transaction-probe")
    try:
        where = (topic, 0)
        reader.assign([where])
        reader.start(where, offset)
        deadline = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline:
            if any(record.offset == offset for record in reader.poll(0.05, 10)):
                return "readers of committed records are shown an aborted one"
            if (reader.position(where) or 0) > offset:
                return None
        return f"readers of committed records do not get past an aborted one within {_TIMEOUT_S:.0f} s"
    finally:
        reader.close()
