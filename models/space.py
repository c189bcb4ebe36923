"""The space in which interests are near or far: which items a user is close to, not where his vector points.

The interest layers cluster the rows of A = U Vᵀ, the similarity of every user to every item. A row has as many
numbers as there are items, but its geometry needs no more than the vector's own dimension, since

    ‖A_i − A_j‖² = (u_i − u_j)ᵀ VᵀV (u_i − u_j) = n · ‖G^½ (u_i − u_j)‖²,   G = VᵀV / n,

so clustering z = G^½ u is clustering the rows of A, exactly. In the eigenbasis of G, where G = E Λ Eᵀ, the first 16
of z = Λ^½ Eᵀ u hold nearly all of it. One scale for all dimensions keeps z near unit size; dimensions are never
scaled one by one, which would undo the geometry.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from models.items import ItemStore

_CHUNK: Final = 4_096  # items at a time: bounds the memory of a derivation, not its result


class InteractionSpace:
    """The basis of z = ``basis`` @ u and the catalogue that it stands for.

    A catalogue's mean moves with the catalogue (:meth:`~models.items.ItemStore.recentre`), and a moved mean changes
    *every* centred vector; so G is computed anew whenever it is needed (10 ms for 4,000 items of 384 numbers), which
    is then both cheaper and more exact than taking single items in and out.

    Parameters
    ----------
    reduced
        Numbers in a z, r.

    Attributes
    ----------
    basis : float32 [r, d]
    scale : float
        ``basis`` is Λ^½ Eᵀ times this: it makes the mean squared length of the items' own z one.
    kept : float
        Share of the items' squared length in the full space that the r dimensions keep.
    contents : uint32 [n]
        Sorted fingerprints of the items that the basis was derived from: what tells, also after a restart, how much
        of the catalogue has changed since.
    """

    def __init__(self, reduced: int = 16) -> None:
        self.reduced = reduced
        self.basis: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self.scale = 1.0
        self.kept = 0.0
        self.contents: NDArray[np.uint32] = np.empty(0, np.uint32)

    def derive(self, items: ItemStore, contents: NDArray[np.uint32] | None = None) -> None:
        """Take the basis from the encoded items, all of them.

        Raises
        ------
        ValueError
            If there is no encoded item.
        """
        gram = gram_matrix(items)
        d = len(gram)
        r = min(self.reduced, d)
        values, vectors = scipy.linalg.eigh(gram, subset_by_index=(d - r, d - 1))
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
        # An eigenvector's sign is the solver's whim; fixed here, so that machines agree
        vectors = vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(r)] < 0, -1, 1)
        self.scale = 1 / np.sqrt(max(float((values**2).sum()), 1e-12))
        self.kept = float((values**2).sum() / max(float((gram**2).sum()), 1e-12))
        self.basis = (self.scale * np.sqrt(values)[:, None] * vectors.T).astype(np.float32)
        self.contents = fingerprints(items) if contents is None else contents

    def project(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """z of user or centred item vectors, float32 [n, r] from [n, d]."""
        z: NDArray[np.float32] = vectors @ self.basis.T
        return z

    def changed_share(self, contents: NDArray[np.uint32]) -> float:
        """Which share of the catalogue is not what the basis was derived from (new, changed or gone)."""
        new = np.isin(contents, self.contents, invert=True).sum()
        gone = np.isin(self.contents, contents, invert=True).sum()
        return float(max(new, gone)) / max(len(self.contents), 1)


def carry(old: NDArray[np.float32], new: NDArray[np.float32]) -> NDArray[np.float64]:
    """The change of basis for points as rows: ``z_new = z_old @ carry(old, new)``, float64 [r_old, r_new].

    From z_old the vector comes back as pinv(P_old) z_old (what the old basis did not keep stays lost), so a column
    changes by P_new pinv(P_old) and a row by its transpose.
    """
    transform: NDArray[np.float64] = (new.astype(np.float64) @ np.linalg.pinv(old.astype(np.float64))).T
    return transform


def gram_matrix(items: ItemStore) -> NDArray[np.float64]:
    """G = VᵀV / n over the centred unit vectors of the encoded items, float64 [d, d].

    The items are taken in the order of their hashes: rows differ from process to process, this order does not.

    Raises
    ------
    ValueError
        If there is no encoded item.
    """
    rows = _ordered(items)
    if not len(rows):
        raise ValueError("no item is encoded yet: there is no space to derive")
    gram = np.zeros((items.dimension, items.dimension))
    for start in range(0, len(rows), _CHUNK):
        block = items.centred(rows[start : start + _CHUNK])
        gram += block.T @ block
    return gram / len(rows)


def fingerprints(items: ItemStore) -> NDArray[np.uint32]:
    """One number for each encoded item, another one when its vector is another; sorted, uint32 [n]."""
    rows = _ordered(items)
    weights = np.random.default_rng(0).integers(0, 2**63, items.dimension, np.uint64) * 2 + 1
    marks = np.empty(len(rows), np.uint32)
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        bits = items.vectors[chunk].view(np.uint32).astype(np.uint64)
        marks[start : start + _CHUNK] = ((bits @ weights) ^ items.hashes[chunk]) >> np.uint64(32)
    marks.sort()
    return marks


def _ordered(items: ItemStore) -> NDArray[np.intp]:
    rows = np.flatnonzero(items.encoded[: len(items)])
    ordered: NDArray[np.intp] = rows[np.argsort(items.hashes[rows], kind="stable")]
    return ordered
