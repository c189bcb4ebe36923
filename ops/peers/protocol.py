"""What every peer is asked and told, so that all are measured alike.

A peer is asked for lists before the clicks happen, and told of the clicks after. Users' histories are kept by whoever
asks and handed over with the question, so all peers have the same live history, to the last click.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from models.errors import ConfigurationError

HISTORY: Final = 50
"""Clicks of a user that a question carries."""


@dataclass(slots=True, frozen=True)
class Questions:
    """``b`` users, each as he stands before a click.

    Attributes
    ----------
    users : int64 [b]
        Numbers from 0 by first appearance; a user may stand here more than once, at different clicks.
    histories : int64 [b, K]
        Item rows, newest first; -1 past the first click.
    lengths : int64 [b]
        Clicks ever made, which may be more than K.
    seen : int64 [any]
        What may not be offered, as keys ``place in the batch · items + row``.
    now : int
        The newest click's time, ms since the epoch.
    items : int
        Items on offer: rows 0 … items − 1.
    """

    users: NDArray[np.int64]
    histories: NDArray[np.int64]
    lengths: NDArray[np.int64]
    seen: NDArray[np.int64]
    now: int
    items: int

    def __len__(self) -> int:
        return len(self.users)

    def history(self, decay: float) -> csr_matrix:
        """Sparse float32 [b, items]: the m-th newest click weighs decay^m (repeats add up)."""
        b, k = self.histories.shape
        place, m = np.nonzero(self.histories >= 0)
        weights = (decay ** np.arange(k)).astype(np.float32)[m]
        return csr_matrix((weights, (place, self.histories[place, m])), shape=(b, self.items))


@dataclass(slots=True, frozen=True)
class Clicks:
    """Clicks in the order in which they happened.

    Attributes
    ----------
    users, rows : int64 [n]
    times : int64 [n]
        ms since the epoch.

    Raises
    ------
    ConfigurationError
        If they are not of one length, or a number is negative.
    """

    users: NDArray[np.int64]
    rows: NDArray[np.int64]
    times: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.users) == len(self.rows) == len(self.times):
            raise ConfigurationError(
                f"clicks of {len(self.users)} users on {len(self.rows)} items at {len(self.times)} times"
            )
        if len(self) and min(self.users.min(), self.rows.min()) < 0:
            raise ConfigurationError("a click with a negative user or item: number both from 0")

    def __len__(self) -> int:
        return len(self.users)


class Peer(Protocol):
    """A recommender under test."""

    def recommend(self, questions: Questions, n: int) -> NDArray[np.int64]:
        """Lists of item rows, best first, int64 [b, n]; -1 past a list's end. What is ``seen`` is never listed."""

    def learn(self, clicks: Clicks) -> None:
        """Take in clicks (some 64 at a time), after their questions."""


def top(scores: NDArray[np.float32], questions: Questions, n: int) -> NDArray[np.int64]:
    """The best ``n`` by score of what each user has not seen; -1 where fewer have a score above -inf.

    Parameters
    ----------
    scores : float32 [b, items]
        Written to.
    """
    b, items = scores.shape
    scores.ravel()[questions.seen] = -np.inf
    k = min(n, items)
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    best.sort(axis=1)  # of equals the lower row first
    values = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    lists = np.full((b, n), -1, np.int64)
    listed = np.take_along_axis(values, order, axis=1) > -np.inf
    lists[:, :k] = np.where(listed, np.take_along_axis(best, order, axis=1), -1)
    return lists


def within(clicks: Clicks, items: int) -> None:
    """Check that clicks are on items of the catalogue.

    Raises
    ------
    ConfigurationError
        If one is not.
    """
    if len(clicks) and int(clicks.rows.max()) >= items:
        raise ConfigurationError(f"a click on row {int(clicks.rows.max())} of a catalogue of {items} items")


def positive(**given: float) -> None:
    """Check that parameters are above 0.

    Raises
    ------
    ConfigurationError
        If one is not; the message names it.
    """
    for name, value in given.items():
        if not value > 0:
            raise ConfigurationError(f"{name} = {value}: it must be above 0")
