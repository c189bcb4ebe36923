"""Nearest items by vector, under adds, updates and withdrawals.

Small catalogues are searched exactly; past a threshold FAISS takes over (IVF or HNSW). Vectors are mean-centred: raw
cosines of a BERT are all high, around their mean they tell items apart.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from models.choosing import best
from models.compiled import reordering
from models.items import ItemStore
from models.kernels import Product
from models.product import SMALL, cosines

_DRIFT: Final = 0.03  # how far the mean may move from the built index's, as a length, before it is built anew
_WIDER: Final = 3  # so many times what is asked for is scored again exactly: one bit a dimension orders roughly
_TOGETHER: Final = 4  # dimensions in a code of 4 bits
_FEW: Final = 1_024  # items whose vectors are held whole: too few to learn codes from


class ItemIndex:
    """The items on offer by their centred vectors.

    FAISS holds the vectors as they stood when the index was built, and the found ones are scored again with the present
    ones, so a moving mean costs nothing until it has moved far. A replaced or withdrawn vector leaves a hole; when half
    of them are holes, the index is built anew.

    Parameters
    ----------
    items
        The catalogue; :meth:`sync` follows its ``changed`` and ``mean``.
    exact_below
        Items up to which the search is exact (one matrix product).
    kind
        What stands in above: ``ivf`` (inverted lists of vectors at one bit a dimension, product quantisation by four
        bits for each four: little memory, cheap updates) or ``hnsw`` (a graph over copies of the vectors: slower to
        build and to update).
    precision
        Of the exact search's product; bf16 and int8 only where the processor has instructions for it:
        :func:`~models.kernels.faster_product`.
    probes
        Inverted lists looked into, or the graph's ``efSearch``; more finds more and costs more.
    """

    def __init__(
        self,
        items: ItemStore,
        *,
        exact_below: int = 20_000,
        kind: Literal["ivf", "hnsw"] = "ivf",
        precision: Product = "fp32",
        probes: int = 16,
    ) -> None:
        self.items = items
        self.exact_below = exact_below
        self.kind = kind
        self.precision = precision
        self.probes = probes
        self._small = SMALL[precision](items) if precision in SMALL else None
        self.builds = 0
        self._index: Any = None  # faiss is treated as untyped: its wrappers add attributes at run time
        self._centres = np.zeros((0, items.dimension), np.float32)  # of the inverted lists
        self._mean: NDArray[np.float32] = items.mean
        self._built_for = 0
        self._held: dict[int, int] = {}  # row → label
        self._rows = np.empty(0, np.int64)  # label → row, -1 for a hole; the last, label -1, is -1

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
            if self._small is not None:
                self._small.follow(np.fromiter(sorted(items.changed), np.int64))
            items.changed.clear()
            return
        moved = float(np.linalg.norm(items.mean - self._mean))
        offered = np.flatnonzero(self._offered(np.arange(len(items))))
        grown = len(offered) > 2 * self._built_for
        if self._index is None or moved > _DRIFT or grown or 2 * len(self._held) < len(self._rows) - 1:
            self._build(offered)
        elif items.changed:
            self._update(np.fromiter(sorted(items.changed), np.int64))
        items.changed.clear()

    def scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosine of every item with each (centred) vector, float32 [b, len(items)]; 0 for an item without a vector."""
        return cosines(self.items, vectors) if self._small is None else self._small.cosines(vectors)

    def cosines(self, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine of each (centred) vector [b, d] with some items of its own [b, m]; 0 for one without a vector."""
        items = self.items
        return _cosines(items.vectors, items.centred_scale, vectors, vectors @ items.mean, rows)

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
        else:  # unlike a list's candidates, these are the answer
            cosines, rows = self._found(vectors, 32 + 2 * _WIDER * k)
        if k < rows.shape[1]:  # only the best are sorted: a sixth of the time with 20,000 items
            best = np.sort(np.argpartition(cosines, -k, axis=1)[:, -k:], axis=1)  # of equals the earlier stays first
            cosines, rows = np.take_along_axis(cosines, best, axis=1), np.take_along_axis(rows, best, axis=1)
        best = np.argsort(-cosines, axis=1, kind="stable")
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
        """About the ``k`` nearest items on offer, in no order, int64 [b, k], -1 where there are fewer.

        Of what the approximate index finds; not for exact searches.
        """
        cosines, rows = self._found(vectors, _WIDER * k)
        best = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        return np.take_along_axis(np.where(np.isfinite(cosines), rows, -1), best, axis=1)

    def _found(self, vectors: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What the approximate index finds in ``k`` places, and the present cosines: float32, int64 [b, ≤ k].

        -inf where there is nothing, or what is no longer on offer.
        """
        index = self._index
        k = k * len(self._rows) // max(1, len(self._held))  # holes are found, too
        if self.kind == "hnsw":
            index.hnsw.efSearch = max(self.probes, k)
            labels = index.search(_whole(vectors), k)[1]
        else:
            wide = _whole(vectors)
            similar = wide @ self._centres.T  # a product, and a search among some thousand: FAISS takes thrice as long
            index.nprobe = min(self.probes, len(self._centres))
            lists = best(similar, index.nprobe)
            labels = index.search_preassigned(wide, k, lists, np.take_along_axis(similar, lists, axis=1))[1]
        rows = self._rows[labels]
        known = np.maximum(rows, 0)
        taken = (rows >= 0) & self._offered(known)
        return np.where(taken, self.cosines(vectors, known), np.float32(-np.inf)), rows

    def _build(self, rows: NDArray[np.int64]) -> None:
        items = self.items
        vectors = _whole(items.centred(rows))
        d = vectors.shape[1]
        index: Any
        if self.kind == "ivf":
            lists = max(1, min(len(rows), int(2 * len(rows) ** 0.5)))
            centres, metric = faiss.IndexFlatIP(d), faiss.METRIC_INNER_PRODUCT
            if len(rows) < _FEW:
                index = faiss.IndexIVFFlat(centres, d, lists, metric)
            else:
                index = faiss.IndexIVFPQFastScan(centres, d, lists, d // _TOGETHER, 4, metric)
                index.by_residual = True  # a vector's code says how it differs from its list's centre
            index.cp.min_points_per_centroid = 1
            index.cp.niter = 6
            index.train(vectors[:: max(1, len(rows) // (24 * lists))] if len(rows) else np.zeros((1, d), np.float32))
            self._centres = index.quantizer.reconstruct_n(0, lists)
        else:
            index = faiss.IndexHNSWFlat(d, 32, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = 80
        if len(rows):
            index.add(vectors)
        self._rows = np.append(rows, -1)
        self._held = {row: label for label, row in enumerate(rows.tolist())}
        self._index, self._mean, self._built_for = index, items.mean, len(rows)
        self.builds += 1

    def _update(self, rows: NDArray[np.int64]) -> None:
        for row in rows.tolist():
            if (label := self._held.pop(row, None)) is not None:
                self._rows[label] = -1
        fresh = rows[self._offered(rows)]
        if not len(fresh):
            return
        # the quantiser was trained around the old mean; vectors are centred as it knows them
        old = self.items.vectors[fresh] - self._mean
        self._index.add(_whole(old / np.maximum(np.linalg.norm(old, axis=1, keepdims=True), 1e-6)))
        labels = range(len(self._rows) - 1, len(self._rows) - 1 + len(fresh))
        self._held.update(zip(fresh.tolist(), labels, strict=True))
        self._rows = np.concatenate([self._rows[:-1], fresh, [-1]])


def _whole(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors [n, d] with zeros behind, up to a multiple of the dimensions that share a code; most models' are one."""
    short = -vectors.shape[1] % _TOGETHER
    return np.pad(vectors, ((0, 0), (0, short))) if short else vectors


@reordering
def _cosines(
    vectors: NDArray[np.float32], scale: NDArray[np.float32], users: NDArray[np.float32], to_mean: NDArray[np.float32],
    rows: NDArray[np.int64],
) -> NDArray[np.float32]:  # fmt: skip
    """(vector · user − mean · user) · scale of users [b, d] and their own rows [b, m] of the vectors, float32 [b, m].

    Four rows at a time: of a large catalogue each is fetched from memory, and four at once take little longer than one.
    """
    b, m = rows.shape
    made = np.empty((b, m), np.float32)
    for user in range(b):
        own, less = users[user], to_mean[user]
        for i in range(0, m, 4):
            j, k, n = min(i + 1, m - 1), min(i + 2, m - 1), min(i + 3, m - 1)
            first, second, third, fourth = rows[user, i], rows[user, j], rows[user, k], rows[user, n]
            at_i = at_j = at_k = at_n = np.float32(0)
            for x in range(len(own)):
                at_i += vectors[first, x] * own[x]
                at_j += vectors[second, x] * own[x]
                at_k += vectors[third, x] * own[x]
                at_n += vectors[fourth, x] * own[x]
            made[user, i], made[user, j] = (at_i - less) * scale[first], (at_j - less) * scale[second]
            made[user, k], made[user, n] = (at_k - less) * scale[third], (at_n - less) * scale[fourth]
    return made
