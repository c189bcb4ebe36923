"""The message that orders a user's erasure."""

from __future__ import annotations

import msgspec

from producers.publisher import Message
from producers.topics import Topics


def erasure_message(user_id: str, request_id: str, ts: int, topics: Topics) -> Message:
    """Order that all that a user did up to now is erased.

    Parameters
    ----------
    user_id
        His own id, as the clicks have it, also where users are stored under pseudonyms.
    request_id
        What the receipt is found by.
    ts
        The moment up to which it is, ms since the epoch.
    """
    return Message(topics.erasures, user_id.encode(), msgspec.json.encode({"request_id": request_id, "ts": ts}))
