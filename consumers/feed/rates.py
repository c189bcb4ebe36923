"""How much one client may ask: a token bucket for each address."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_CLIENTS: Final = 20_000
"""Addresses remembered; the one that was silent longest is forgotten first, and begins anew."""
_BURST_S: Final = 2.0


class Rate:
    """Token buckets by address.

    Parameters
    ----------
    per_second
        On average; so many of two seconds may come at once. 0: any number.

    Examples
    --------
    >>> rate = Rate(1, clock=lambda: 0.0)
    >>> [rate.take("a") for _ in range(3)]
    [0.0, 0.0, 1.0]
    """

    def __init__(self, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second * _BURST_S)
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """0 if the client may go on, or else how long it should wait, s."""
        if not self._per_second:
            return 0.0
        now = self._clock()
        left, at = self._left.pop(client, (self._most, now))
        left = min(self._most, left + (now - at) * self._per_second)
        wait = 0.0 if left >= 1 else (1 - left) / self._per_second
        self._left[client] = (left if wait else left - 1, now)
        if len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        return wait
