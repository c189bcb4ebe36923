"""Items and layers as answers need them: titles, what may be offered, what is similar, what everybody likes."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import numpy as np

from consumers.client import Record
from models.errors import DimensionMismatch, InvalidEvent
from models.index import ItemIndex
from models.items import NEVER, ItemStore
from models.layer_view import LayerView
from models.records import ItemVector, LayerInfo, LayerTree, decode

_POPULAR: Final = 300
"""Items of everybody's list that are kept, so that something is left when a request filters."""


class Facts(NamedTuple):
    """What is known of an item, replaced as a whole: it may be read on any thread."""

    title: str
    category: str
    offered: bool
    """Available, and not blocked."""
    expires_ms: int


class Popular(NamedTuple):
    """An item of the root layer."""

    item_id: str
    clicks: float
    """Decayed clicks at the longest half-life."""


class Shelf:
    """Fed on the reader's thread, asked on others.

    Parameters
    ----------
    items, index
        For what is similar; nobody else uses them.
    model
        The encoder's name; vectors of another are left out, their items are not.
    blocked_categories, blocked_labels
        Never offered.
    """

    def __init__(
        self,
        items: ItemStore,
        index: ItemIndex,
        model: str,
        blocked_categories: Collection[str] = (),
        blocked_labels: Collection[str] = (),
    ) -> None:
        self._items = items
        self._index = index
        self._view = LayerView(items)
        self._model = model
        self._categories = frozenset(blocked_categories)
        self._labels = frozenset(blocked_labels)
        self._lock = threading.Lock()  # of items, index and view
        self._facts: dict[str, Facts] = {}
        self.layers: dict[str, LayerInfo] = {}
        self.tree: LayerTree | None = None
        self.popular: tuple[Popular, ...] = ()
        self.popular_ms = 0
        """When the root layer was produced, ms since the epoch."""

    # -- the reader's thread ------------------------------------------------------------------------------------

    def take_item(self, record: Record) -> None:
        """A record of ``vectors``."""
        item_id = _text(record.key)
        if record.value is None:
            known = self._facts.get(item_id)
            if known is not None:
                self._facts[item_id] = known._replace(offered=False)
            with self._lock:
                self._items.withdraw(item_id)
            return
        item = decode(record.value, ItemVector)
        blocked = item.category in self._categories or not self._labels.isdisjoint(item.safety)
        self._facts[item_id] = Facts(
            item.title or item_id,
            item.category,
            item.available and not blocked,
            NEVER if item.expires_ms is None else item.expires_ms,
        )
        if item.model != self._model:
            raise InvalidEvent("vector: of another model", "validate")
        try:
            with self._lock:
                self._items.put(item_id, item)
        except DimensionMismatch as error:
            raise InvalidEvent("vector: of another model", "validate") from error

    def take_layer(self, record: Record) -> None:
        """A record of ``layers``."""
        key = _text(record.key)
        if key == "tree" and record.value is not None:
            self.tree = decode(record.value, LayerTree)
        elif key.startswith("layer/") and record.value is not None:
            info = decode(record.value, LayerInfo)
            if info.id == "root":
                with self._lock:
                    self._view.put_layer(info)
                    rows = self._view.popular(_POPULAR)
                    counts = self._view.popularity(rows)[:, -1].tolist()
                    ids = [self._items.ids[row] for row in rows.tolist()]
                self.popular = tuple(map(Popular, ids, counts))
                self.popular_ms = record.timestamp
            self.layers = self.layers | {info.id: info}  # replaced: whoever walks over it keeps the old one

    # -- any thread ---------------------------------------------------------------------------------------------

    def facts(self, item_id: str) -> Facts | None:
        """What is known of an item."""
        return self._facts.get(item_id)

    def offered(self, item_id: str, now_ms: int, category: str | None = None) -> bool:
        """Whether an item may be shown now; one that nobody has described yet may, since it stands in a list."""
        facts = self._facts.get(item_id)
        if facts is None:
            return category is None
        return facts.offered and facts.expires_ms > now_ms and category in (None, facts.category)

    def similar(self, item_id: str, n: int, now_ms: int | None = None) -> Sequence[tuple[str, float]] | None:
        """The nearest items by vector that may be shown, with their cosines; None if the item has no vector.

        Blocks while the index is built anew.
        """
        now_ms = int(time.time() * 1000) if now_ms is None else now_ms
        with self._lock:
            row = self._items.find(item_id)
            if row < 0 or not self._items.encoded[row]:
                return None
            self._items.recentre()
            self._index.sync()
            # more than asked for: some are blocked or expired
            cosines, rows = self._index.search(self._items.centred(np.array([row])), 2 * n + 16)
            found = [(self._items.ids[r], float(c)) for r, c in zip(rows[0], cosines[0], strict=True) if r >= 0]
        return [(i, cosine) for i, cosine in found if i != item_id and self.offered(i, now_ms)][:n]


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")
