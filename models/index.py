"""Nearest items by vector, under adds, updates and withdrawals.

Small catalogues are searched exactly; past a threshold FAISS takes over (IVF or HNSW). Vectors are mean-centred: raw
cosines of a BERT are all high, around their mean they tell items apart.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from models.items import ItemStore
from models.kernels import Precision
from models.product import HalfProduct

_HASHTABLE: Final[Any] = faiss.DirectMap.Hashtable  # type: ignore[attr-defined]
_DRIFT: Final = 0.03  # how far the mean may move from the built index's, as a length, before it is built anew


class ItemIndex:
    """The items on offer by their centred vectors.

    FAISS holds the vectors as they stood when the index was built, and the found ones are scored again with the present
    ones, so a moving mean costs nothing until it has moved far.

    Parameters
    ----------
    items
        The catalogue; :meth:`sync` follows its ``changed`` and ``mean``.
    exact_below
        Items up to which the search is exact (one matrix product).
    kind
        What stands in above: ``ivf`` (inverted lists, cheap updates) or ``hnsw`` (a graph: quicker at high recall,
        slower to update; a replaced or withdrawn vector leaves a hole that the next build closes).
    precision
        Of the exact search's product; bf16 only where the processor has instructions for it.
    probes
        Inverted lists looked into, or the graph's ``efSearch``; more finds more and costs more.
    """

    def __init__(
        self,
        items: ItemStore,
        *,
        exact_below: int = 20_000,
        kind: Literal["ivf", "hnsw"] = "ivf",
        precision: Precision = "fp32",
        probes: int = 16,
    ) -> None:
        self.items = items
        self.exact_below = exact_below
        self.kind = kind
        self.precision = precision
        self.probes = probes
        self._half = HalfProduct(items) if precision == "bf16" else None
        self.builds = 0
        self._index: Any = None  # faiss is treated as untyped: its wrappers add attributes at run time
        self._mean: NDArray[np.float32] = items.mean
        self._built_for = 0
        self._held: dict[int, int] = {}  # row → label in the graph (ivf: the row itself)
        self._rows: list[int] = []  # hnsw: label → row, -1 for a hole

    @property
    def exact(self) -> bool:
        """Whether searches are exact at present."""
        return self._index is None

    def __len__(self) -> int:
        return int(self._offered(np.arange(len(self.items))).sum()) if self._index is None else len(self._held)

    def sync(self) -> None:
        """Follow the catalogue: what was added, replaced, withdrawn since the last call."""
        items = self.items
        if len(items) <= self.exact_below:
            self._index = None
            self._held.clear()
            if self._half is not None:
                self._half.follow(np.fromiter(sorted(items.changed), np.int64))
            items.changed.clear()
            return
        moved = float(np.linalg.norm(items.mean - self._mean))
        offered = np.flatnonzero(self._offered(np.arange(len(items))))
        holes = len(self._rows) - len(self._held) if self.kind == "hnsw" else 0
        if self._index is None or moved > _DRIFT or len(offered) > 2 * self._built_for or 2 * holes > len(self._rows):
            self._build(offered)
        elif items.changed:
            self._update(np.fromiter(sorted(items.changed), np.int64))
        items.changed.clear()

    def scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosine of every item with each (centred) vector, float32 [b, len(items)]; 0 for an item without a vector."""
        items, n = self.items, len(self.items)
        if self._half is not None:
            return self._half.cosines(vectors)
        products = vectors @ items.vectors[:n].T
        products -= (vectors @ items.mean)[:, None]
        products *= items.centred_scale[:n]
        scores: NDArray[np.float32] = products
        return scores

    def cosines(self, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine of each (centred) vector [b, d] with some items of its own [b, m]; 0 for one without a vector."""
        items = self.items
        products = np.empty(rows.shape, np.float32)
        near = np.empty((rows.shape[1], items.dimension), np.float32)
        for vector, wanted, product in zip(vectors, rows, products, strict=True):
            # one user at a time through one small buffer: half the time of gathering all vectors first
            np.take(items.vectors, wanted, axis=0, out=near, mode="clip")
            np.dot(near, vector, out=product)
        cosines: NDArray[np.float32] = (products - (vectors @ items.mean)[:, None]) * items.centred_scale[rows]
        return cosines

    def search(self, vectors: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The ``k`` nearest items on offer (encoded and available).

        Parameters
        ----------
        vectors : float32 [b, d]
            Centred, unit length; a free text's vector comes from :meth:`centre` first.

        Returns
        -------
        cosines : float32 [b, k]
            Falling; -inf where there are fewer than ``k`` items.
        rows : int64 [b, k]
            -1 where there are fewer.
        """
        n = len(self.items)
        if self.exact:
            rows = np.broadcast_to(np.arange(n), (len(vectors), n))
            cosines = np.where(self._offered(np.arange(n)), self.scores(vectors), -np.inf).astype(np.float32)
        else:
            rows = self.near(vectors, 16 + 2 * k)  # more than asked for: the present mean may order them otherwise
            known = np.maximum(rows, 0)
            cosines = np.where((rows >= 0) & self._offered(known), self.cosines(vectors, known), -np.inf)
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        cosines = np.take_along_axis(cosines, best, axis=1)
        rows = np.where(np.isfinite(cosines), np.take_along_axis(rows, best, axis=1), -1)
        if (short := k - rows.shape[1]) > 0:
            rows = np.pad(rows, ((0, 0), (0, short)), constant_values=-1)
            cosines = np.pad(cosines, ((0, 0), (0, short)), constant_values=-np.inf)
        return cosines, rows

    def centre(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw unit vectors (an encoded text's) in the space of the index: the mean taken off, unit length again."""
        centred = vectors - self.items.mean
        unit: NDArray[np.float32] = centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-6)
        return unit

    def _offered(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        offered: NDArray[np.bool_] = self.items.encoded[rows] & self.items.available[rows]
        return offered

    def near(self, vectors: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """About ``k`` of the nearest items as the approximate index has them, int64 [b, k], -1 where there are fewer.

        The order is that of the vectors and the mean at the time of the build; some may be withdrawn by now.
        """
        index = self._index
        if self.kind == "ivf":
            index.nprobe = self.probes
            rows: NDArray[np.int64] = index.search(vectors, k)[1]
            return rows
        k = k * max(1, len(self._rows)) // max(1, len(self._held))  # holes are found, too
        index.hnsw.efSearch = max(self.probes, k)
        found: NDArray[np.int64] = np.array([*self._rows, -1])[index.search(vectors, k)[1]]
        return found

    def _build(self, rows: NDArray[np.int64]) -> None:
        items = self.items
        vectors = items.centred(rows)
        d = items.dimension
        index: Any
        if self.kind == "ivf":
            lists = max(1, int(2 * len(rows) ** 0.5))
            index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, lists, faiss.METRIC_INNER_PRODUCT)
            index.cp.min_points_per_centroid = 1
            index.cp.niter = 6
            index.set_direct_map_type(_HASHTABLE)
            index.train(vectors[:: max(1, len(rows) // (24 * lists))])
            index.add_with_ids(vectors, rows)
            self._held = {row: row for row in rows.tolist()}
        else:
            index = faiss.IndexHNSWFlat(d, 32, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = 80
            index.add(vectors)
            self._rows = rows.tolist()
            self._held = {row: label for label, row in enumerate(self._rows)}
        self._index, self._mean, self._built_for = index, items.mean, len(rows)
        self.builds += 1

    def _update(self, rows: NDArray[np.int64]) -> None:
        index = self._index
        gone = [row for row in rows.tolist() if row in self._held]
        if self.kind == "ivf":
            if gone:
                index.remove_ids(np.array(gone, np.int64))
        else:
            for row in gone:
                self._rows[self._held[row]] = -1
        for row in gone:
            del self._held[row]
        fresh = rows[self._offered(rows)]
        if not len(fresh):
            return
        # the quantiser was trained around the old mean; vectors are centred as it knows them
        old = self.items.vectors[fresh] - self._mean
        vectors = old / np.maximum(np.linalg.norm(old, axis=1, keepdims=True), 1e-6)
        if self.kind == "ivf":
            index.add_with_ids(vectors, fresh)
            self._held.update((row, row) for row in fresh.tolist())
        else:
            self._held.update((row, len(self._rows) + i) for i, row in enumerate(fresh.tolist()))
            self._rows.extend(fresh.tolist())
            index.add(vectors)
