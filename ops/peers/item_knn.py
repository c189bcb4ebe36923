"""ItemKNN: cosine between items over the users who clicked them, refitted at intervals.

Sarwar et al., Item-based collaborative filtering recommendation algorithms, WWW 2001; with shrinkage.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ops.peers.protocol import Questions, positive
from ops.peers.refitted import Refitted, pairs


class ItemKNN(Refitted):
    """score(q) = Σ_m decay^m · sim(j_m, q), with sim(i, j) = |U_i ∩ U_j| / (√(|U_i| |U_j|) + shrink).

    Parameters
    ----------
    neighbours
        Kept of each item, the most similar.
    shrink
        Added to the denominator: distrust of pairs that few users support.
    decay
        Weight of a click in the user's history against the next newer one.
    """

    def __init__(
        self, items: int, *, neighbours: int = 200, shrink: float = 10.0, decay: float = 0.9, every: int = 5_000
    ) -> None:
        super().__init__(items, every=every)
        positive(neighbours=neighbours, decay=decay)
        self.neighbours = neighbours
        self.shrink = shrink
        self.decay = decay
        self._similar = csr_matrix((items, items), dtype=np.float32)

    def fit(self, users: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Similarities of all pairs, the best kept."""
        clicked = pairs(users, rows, self.items)
        together = (clicked.T @ clicked).tocsr()
        norms = np.sqrt(together.diagonal())
        owner = np.repeat(np.arange(self.items), np.diff(together.indptr))
        other = together.indices
        together.data /= norms[owner] * norms[other] + np.float32(self.shrink)
        together.data[owner == other] = 0
        self._similar = _best(together, owner, self.neighbours)

    def scores(self, questions: Questions) -> NDArray[np.float32]:
        """The sum; nothing to say where it is 0."""
        scores: NDArray[np.float32] = (questions.history(self.decay) @ self._similar).toarray()
        scores[scores <= 0] = -np.inf
        return scores


def _best(matrix: csr_matrix, owner: NDArray[np.int64], k: int) -> csr_matrix:
    """The k largest of each row."""
    order = np.lexsort((-matrix.data, owner))
    rank = np.arange(len(owner)) - matrix.indptr[owner]
    kept = order[rank < k]
    kept = kept[matrix.data[kept] > 0]
    return csr_matrix((matrix.data[kept], (owner[kept], matrix.indices[kept])), shape=matrix.shape)
