"""A stored list as an answer: what may be shown, what was asked for; and everybody's list for whoever has none."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from consumers.feed.shelf import Shelf
from models.records import LayerRef, RankedItem, Reason, Recommendation, Source

POPULAR_REASON: Final = "Popular right now"


class Wanted(Struct, frozen=True):
    """What a request asks of a list."""

    limit: int = 10
    exclude: frozenset[str] = frozenset()
    category: str | None = None


class Feed(Struct, frozen=True, kw_only=True):
    """A user's list. ``personal`` is false for a user of whom nothing is known: everybody's list, without a source."""

    user_id: str
    """As he is stored: a pseudonym where users are stored under pseudonyms."""
    personal: bool
    generated_at: int
    """ms since the epoch."""
    event_ts: int
    """Time of the newest click in it, ms since the epoch."""
    model: str
    layers_version: int
    arm: str
    encoded: bool
    source: Source | None
    layer: LayerRef | None
    items: tuple[RankedItem, ...]


_lists: Final = msgspec.json.Decoder(Recommendation)
_encode: Final = msgspec.json.Encoder().encode


class Serving:
    """Makes answers.

    Parameters
    ----------
    wall
        The time, s since the epoch.
    """

    def __init__(self, shelf: Shelf, wall: Callable[[], float] = time.time) -> None:
        self._shelf = shelf
        self._wall = wall

    def answer(self, user_id: str, stored: bytes | None, wanted: Wanted) -> bytes:
        """The body for a user's stored list (None: he has none), JSON."""
        now_ms = int(self._wall() * 1000)
        if stored is None:
            return _encode(self._everybodys(user_id, wanted, now_ms))
        made = _lists.decode(stored)
        return _encode(
            Feed(
                user_id=made.user_id,
                personal=True,
                generated_at=made.generated_at,
                event_ts=made.event_ts,
                model=made.model,
                layers_version=made.layers_version,
                arm=made.arm,
                encoded=made.encoded,
                source=made.source,
                layer=made.layer,
                items=tuple(item for item in made.items if self._shown(item.item_id, wanted, now_ms))[: wanted.limit],
            )
        )

    def _shown(self, item_id: str, wanted: Wanted, now_ms: int) -> bool:
        return item_id not in wanted.exclude and self._shelf.offered(item_id, now_ms, wanted.category)

    def _everybodys(self, user_id: str, wanted: Wanted, now_ms: int) -> Feed:
        shelf, items = self._shelf, list[RankedItem]()
        most = max((item.clicks for item in shelf.popular), default=0.0) or 1.0
        for item in shelf.popular:
            facts = shelf.facts(item.item_id)
            if facts is not None and self._shown(item.item_id, wanted, now_ms):
                score = round(item.clicks / most, 4)
                reason = Reason(POPULAR_REASON, (), {"popularity": score})
                items.append(RankedItem(item.item_id, facts.title, score, reason))
                if len(items) == wanted.limit:
                    break
        return Feed(
            user_id=user_id,
            personal=False,
            generated_at=shelf.popular_ms,
            event_ts=0,
            model="",
            layers_version=shelf.tree.version if shelf.tree else 0,
            arm="root",
            encoded=False,
            source=None,
            layer=LayerRef("root", "everybody"),
            items=tuple(items),
        )


def tag(body: bytes) -> str:
    """What names exactly this answer: its ETag, and its id in a stream."""
    return hashlib.blake2b(body, digest_size=9).hexdigest()
