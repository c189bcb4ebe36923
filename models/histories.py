"""The last clicks of many users side by side, in the arrays that scoring works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.neighbours import WINDOW
from models.profile import Profile

DECAY: Final = 0.9
"""Weight of a click against the next newer one."""

RECENT: Final = 8
"""Clicks that ``recent`` weighs: the ninth would have .6^8 = .02."""

BUCKETS: Final = (0, 1, 2, 4, 10, 30)
"""Shortest history of each bucket: 0, 1, 2–3, 4–9, 10–29, 30+ clicks."""

_DECAYS: Final = np.array([DECAY**m for m in range(WINDOW)], np.float32)
_LONG_DECAYS: Final = np.array([0.95**m for m in range(WINDOW)], np.float32)
_RECENT_DECAYS: Final = np.array([0.6**m for m in range(RECENT)], np.float32)
_EDGES: Final = np.array(BUCKETS[1:])


@dataclass(slots=True, frozen=True)
class Histories:
    """The last clicks of ``b`` users.

    Attributes
    ----------
    rows : int64 [b, K]
        Item rows, newest first; 0 past a user's last.
    counts : int64 [b]
        How many there are of each user.
    buckets : int64 [b]
        Position in :data:`BUCKETS` by the number of clicks a user has ever made.
    decay : float32 [b, K]
        .9^m for the m-th newest; 0 past a user's last.
    long : float32 [b, K]
        .95^m: for a scorer that weighs a click less itself where others say the same.
    recent : float32 [b, 8]
        .6^m for the :data:`RECENT` newest: what somebody is after right now.
    """

    rows: NDArray[np.int64]
    counts: NDArray[np.int64]
    buckets: NDArray[np.int64]
    decay: NDArray[np.float32]
    long: NDArray[np.float32]
    recent: NDArray[np.float32]

    @classmethod
    def of(cls, profiles: Sequence[Profile]) -> Histories:
        """The histories of these profiles."""
        b = len(profiles)
        newest = [profile.rows[: -WINDOW - 1 : -1] for profile in profiles]
        counts = np.fromiter(map(len, newest), np.int64, b)
        rows = np.fromiter(chain.from_iterable(newest), np.int64, int(counts.sum()))
        clicks = np.fromiter([profile.clicks for profile in profiles], np.int64, b)
        return cls(*_laid_out(rows, counts, clicks, _EDGES, _DECAYS, _LONG_DECAYS, _RECENT_DECAYS))


@compiled
def _laid_out(
    newest: NDArray[np.int64], counts: NDArray[np.int64], clicks: NDArray[np.int64], edges: NDArray[np.int64],
    decays: NDArray[np.float32], long_decays: NDArray[np.float32], recent_decays: NDArray[np.float32],
) -> tuple[
    NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32],
    NDArray[np.float32],
]:  # fmt: skip
    """What :class:`Histories` holds, from the newest clicks of one user after the other, and how many he ever made."""
    b, window, at = len(counts), len(decays), 0
    rows, buckets = np.zeros((b, window), np.int64), np.zeros(b, np.int64)
    decay, long = np.zeros((b, window), np.float32), np.zeros((b, window), np.float32)
    recent = np.zeros((b, len(recent_decays)), np.float32)
    for user in range(b):
        k, lately = counts[user], min(counts[user], len(recent_decays))
        rows[user, :k] = newest[at : at + k]
        decay[user, :k], long[user, :k], recent[user, :lately] = decays[:k], long_decays[:k], recent_decays[:lately]
        at += k
        for edge in edges:
            buckets[user] += clicks[user] >= edge
    return rows, counts, buckets, decay, long, recent
