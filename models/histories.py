"""The last clicks of many users side by side, in the arrays that scoring works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.neighbours import WINDOW
from models.profile import Profile

DECAY: Final = 0.9
"""Weight of a click against the next newer one."""

RECENT: Final = 8
"""Clicks that ``recent`` weighs: the ninth would have .6^8 = .02."""

BUCKETS: Final = (0, 1, 2, 4, 10, 30)
"""Shortest history of each bucket: 0, 1, 2–3, 4–9, 10–29, 30+ clicks."""

_DECAYS: Final = (DECAY ** np.arange(WINDOW)).astype(np.float32)
_LONG_DECAYS: Final = (0.95 ** np.arange(WINDOW)).astype(np.float32)
_RECENT_DECAYS: Final = (0.6 ** np.arange(RECENT)).astype(np.float32)
_EDGES: Final = np.array(BUCKETS[1:])


@dataclass(slots=True, frozen=True)
class Histories:
    """The last clicks of ``b`` users.

    Attributes
    ----------
    rows : int64 [b, K]
        Item rows, newest first; 0 past a user's last.
    decay : float32 [b, K]
        .9^m for the m-th newest; 0 past a user's last.
    buckets : int64 [b]
        Position in :data:`BUCKETS` by the number of clicks a user has ever made.
    """

    rows: NDArray[np.int64]
    decay: NDArray[np.float32]
    buckets: NDArray[np.int64]

    @property
    def recent(self) -> NDArray[np.float32]:
        """.6^m for the :data:`RECENT` newest, float32 [b, 8]: what somebody is after right now."""
        return np.where(self.decay[:, :RECENT] > 0, _RECENT_DECAYS, np.float32(0))

    @property
    def long(self) -> NDArray[np.float32]:
        """.95^m, float32 [b, K]: for a scorer that weighs a click less itself where others say the same."""
        return np.where(self.decay > 0, _LONG_DECAYS, np.float32(0))

    @classmethod
    def of(cls, profiles: Sequence[Profile]) -> Histories:
        """The histories of these profiles."""
        b = len(profiles)
        newest = [profile.rows[: -WINDOW - 1 : -1] for profile in profiles]
        filled = np.arange(WINDOW) < np.fromiter(map(len, newest), np.int64, b)[:, None]
        rows = np.zeros((b, WINDOW), np.int64)
        rows[filled] = np.fromiter(chain.from_iterable(newest), np.int64)
        clicks = np.fromiter((profile.clicks for profile in profiles), np.int64, b)
        return cls(rows, np.where(filled, _DECAYS, np.float32(0)), np.searchsorted(_EDGES, clicks, side="right"))
