"""EASE: the closed-form linear autoencoder over items, refitted at intervals.

Steck, Embarrassingly shallow autoencoders for sparse data, WWW 2019.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import spotrf, spotri

from models.errors import StrataError
from ops.peers.protocol import Questions, positive
from ops.peers.refitted import Refitted, pairs


class EASE(Refitted):
    """score = x · B, with B = I − P / diag(P) and P = (XᵀX + λI)⁻¹; x is the user's history, newer clicks heavier.

    Parameters
    ----------
    l2
        λ.
    decay
        Weight of a click in the user's history against the next newer one.
    most
        Only so many items, those clicked most, take part: the inverse costs their number's cube.
    """

    def __init__(
        self, items: int, *, l2: float = 200.0, decay: float = 0.9, most: int = 4_000, every: int = 5_000
    ) -> None:
        super().__init__(items, every=every)
        positive(l2=l2, decay=decay, most=most)
        self.l2 = l2
        self.decay = decay
        self.most = most
        self._chosen: NDArray[np.int64] = np.empty(0, np.int64)
        self._weights: NDArray[np.float32] = np.empty((0, 0), np.float32)

    def fit(self, users: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Invert the Gram matrix of the items clicked so far."""
        clicked = pairs(users, rows, self.items)
        counts = np.asarray(clicked.sum(axis=0)).ravel()
        order = np.argsort(-counts, kind="stable")[: self.most]
        self._chosen = np.sort(order[counts[order] > 0])
        few = clicked[:, self._chosen]
        gram = np.asfortranarray((few.T @ few).toarray())
        gram[np.diag_indices_from(gram)] += np.float32(self.l2)
        inverse = _inverse(gram)
        self._weights = inverse / -np.diag(inverse)
        np.fill_diagonal(self._weights, 0)

    def scores(self, questions: Questions) -> NDArray[np.float32]:
        """Nothing to say of items that took no part, or where nothing of the history did."""
        history = questions.history(self.decay)[:, self._chosen]
        scores = np.full((len(questions), self.items), -np.inf, np.float32)
        some = np.diff(history.indptr) > 0
        scores[np.ix_(some, self._chosen)] = history[some] @ self._weights
        return scores


def _inverse(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of a symmetric positive definite matrix, by Cholesky: half the work of a general inverse."""
    factor, failed = spotrf(matrix, lower=True, overwrite_a=True)
    if not failed:
        inverse, failed = spotri(factor, lower=True, overwrite_c=True)
    if failed:
        raise StrataError("EASE's Gram matrix is not positive definite in float32: raise l2")
    low: NDArray[np.float32] = np.tril(inverse)
    return low + np.tril(low, -1).T
