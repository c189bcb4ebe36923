"""Batch models in a stream: everything so far is kept, and the model is fitted anew from time to time."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ops.peers.popularity import Filled
from ops.peers.protocol import Clicks, Questions, positive, top, within


class Refitted(ABC):
    """A model that is fitted to all clicks so far, each ``every`` clicks, and applied to users' live histories.

    Parameters
    ----------
    items
        Size of the catalogue.
    every
        Clicks between two fits. The first comes after a fifth of that, so that no peer is silent for long.
    """

    def __init__(self, items: int, *, every: int = 5_000) -> None:
        positive(items=items, every=every)
        self.items = items
        self.every = every
        self.clicked = np.zeros(items, np.bool_)
        self._filled = Filled(items)
        self._users: list[NDArray[np.int64]] = []
        self._rows: list[NDArray[np.int64]] = []
        self._due = every // 5
        self._fitted = False

    @abstractmethod
    def fit(self, users: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Fit the model to all clicks so far."""

    @abstractmethod
    def scores(self, questions: Questions) -> NDArray[np.float32]:
        """Scores float32 [b, items]; -inf or nan where the model has nothing to say."""

    def recommend(self, questions: Questions, n: int) -> NDArray[np.int64]:
        """The model's best, then what is popular."""
        b = len(questions)
        scores = np.full((b, self.items), -np.inf, np.float32)
        if self._fitted:
            some = questions.lengths > 0
            scores[some] = self.scores(questions)[some]
        return top(self._filled.fill(scores, np.isfinite(scores)), questions, n)

    def learn(self, clicks: Clicks) -> None:
        """Keep clicks; fit if it is time."""
        within(clicks, self.items)
        self._filled.learn(clicks)
        self.clicked[clicks.rows] = True
        self._users.append(clicks.users)
        self._rows.append(clicks.rows)
        self._due -= len(clicks)
        if self._due <= 0:
            self._due = self.every
            self.fit(np.concatenate(self._users), np.concatenate(self._rows))
            self._fitted = True


def pairs(users: NDArray[np.int64], rows: NDArray[np.int64], items: int) -> csr_matrix:
    """Who has clicked what: float32 [users, items], 1 however often."""
    matrix = csr_matrix((np.ones(len(users), np.float32), (users, rows)), shape=(int(users.max()) + 1, items))
    matrix.data[:] = 1  # scipy has added up repeats
    return matrix
