"""A data set's catalogue in memory, its vectors kept on disk between runs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np

from consumers.catalogue import CatalogueConfig
from models.encoder import Encoder
from models.events import Item
from models.items import ItemStore
from models.kernels import Precision
from models.records import ItemVector, half
from models.text import ItemText, text_hash
from producers.dataset import Dataset

CACHE: Final = Path(".cache/vectors")

PRECISION: Final[Precision] = "fp32"
"""Of BERT where lists are compared: not what is faster here, or was at that moment, for bf16 makes other lists."""


def load(items: list[Item], encoder: Encoder, cache: Path = CACHE, config: CatalogueConfig | None = None) -> ItemStore:
    """Encode items as the catalogue role does (or find their vectors in the cache), and put them into a store.

    An item that brings its own vector keeps it where the length is right.
    """
    config = config or CatalogueConfig()
    texts = list(map(ItemText(config.text), items))
    tokens = encoder.tokenise(list(map(ItemText(config.history_text), items)))
    key = hashlib.blake2b(text_hash(encoder.name, *texts) + encoder.precision.encode(), digest_size=12).hexdigest()
    path = cache / f"{key}.npy"
    if path.is_file():
        vectors = np.load(path, allow_pickle=False)
    else:
        vectors = encoder.encode(encoder.inputs([[ids] for ids in encoder.tokenise(texts)])).astype(np.float16)
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, vectors, allow_pickle=False)
        partial.replace(path)
    store = ItemStore(encoder.dimension)
    for item, ids, vector in zip(items, tokens, vectors, strict=True):
        own = item.vector if item.vector is not None and len(item.vector) == encoder.dimension else None
        store.put(
            item.item_id,
            ItemVector(
                model=encoder.name,
                text_hash=b"",
                tokens=ids.astype("<i4").tobytes(),
                vector=half(vector if own is None else np.array(own, np.float32)),
                title=item.title,
                category=item.category,
                tags=item.tags,
                available=item.available,
                expires_ms=item.expires_ms,
                safety=item.safety,
            ),
        )
    return store


def of(data: Dataset, encoder: Encoder, rows: set[str] | None = None) -> ItemStore:
    """A data set's items (only those with an id in ``rows``, where given)."""
    return load([item for item in data.items() if rows is None or item.item_id in rows], encoder)
