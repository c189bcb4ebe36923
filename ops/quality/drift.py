"""Adaptation measured: a real stream whose world changes at its half, and how soon the hit rate is back.

Three shifts, none of which a model is told of:

``items``
    Every item changes places with one about as popular: what the catalogue's ids stood for is of use no more, and
    histories mix the old world and the new.
``users``
    From then on nobody stays for more than two clicks: a stream that followed histories follows what is popular.
``users back``
    The same the other way round: nobody stays at first, and from the half on people have histories.

Beside them, what the first could at best be hoped to come to: the clicks after it by themselves, asked of models that
have nothing to unlearn. And the stream as it is, since its hit rate swings by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ops.measures import standard_error
from ops.quality.outcome import Outcome
from ops.quality.stream import Stream, earlier

WINDOW: Final = 1_000
WITHIN: Final = 5_000
"""Clicks after which the hit rate is to be back."""

_LEVEL: Final = 15_000  # the new level: of the clicks asked for from WITHIN to here after the shift
_STAY: Final = 2
_STRATUM: Final = 20  # items about as popular as one another
_SEED: Final = 7


def items_exchanged(stream: Stream) -> Stream:
    """From the half on, items permuted within strata of popularity."""
    half = len(stream) // 2
    order = np.argsort(-np.bincount(stream.rows[:half], minlength=stream.items), kind="stable")
    draw = np.random.default_rng(_SEED)
    becomes = np.empty(stream.items, np.int64)
    for start in range(0, stream.items, _STRATUM):
        stratum = order[start : start + _STRATUM]
        becomes[stratum] = np.roll(stratum, 1)[draw.permutation(len(stratum))]
    rows = stream.rows.copy()
    rows[half:] = becomes[rows[half:]]
    return replace(stream, rows=rows)


def users_pass_by(stream: Stream) -> Stream:
    """From the half on, every second click of a user is that of a new one."""
    return _renamed(stream, np.arange(len(stream)) >= len(stream) // 2)


def users_come_to_stay(stream: Stream) -> Stream:
    """Before the half, every second click of a user is that of a new one."""
    return _renamed(stream, np.arange(len(stream)) < len(stream) // 2)


def from_nothing(stream: Stream) -> Stream:
    """The clicks after the shift of :func:`items_exchanged`, without those before."""
    return items_exchanged(stream).taken(np.arange(len(stream) // 2, len(stream)))


AT: Final = 0.5
"""Share of a stream's clicks that come before the world changes."""

NONE: Final = "none"
ITEMS: Final = "items"
FRESH: Final = "items, from nothing"


@dataclass(frozen=True, slots=True)
class Shift:
    """A derived stream.

    Parameters
    ----------
    make
        From the plain one.
    at
        Share of its clicks that come before the world changes; 0 where it is the new one from the first on, and there
        is nothing to recover from.
    """

    make: Callable[[Stream], Stream]
    at: float = AT


SHIFTS: Final[dict[str, Shift]] = {
    ITEMS: Shift(items_exchanged),
    FRESH: Shift(from_nothing, at=0),
    "users": Shift(users_pass_by),
    "users back": Shift(users_come_to_stay),
}


def _renamed(stream: Stream, where: NDArray[np.bool_]) -> Stream:
    users = stream.users.copy()
    visit = users[where] * len(stream) + earlier(users[where]) // _STAY
    _, number = np.unique(visit, return_inverse=True)
    users[where] = int(users.max()) + 1 + number
    return replace(stream, users=users)


@dataclass(slots=True, frozen=True)
class Adaptation:
    """Hit rates around a shift, by clicks asked for.

    Attributes
    ----------
    windows : float64 [w]
        HR@10 of each :data:`WINDOW`; ``before`` of them lie before the shift.
    soon, level
        HR@10 in the second half of the first :data:`WITHIN` clicks, and of the 10,000 after these.
    error
        Standard error of ``soon / level``, by user.
    """

    windows: NDArray[np.float64]
    before: int
    soon: float
    level: float
    error: float

    @property
    def recovered(self) -> float:
        """The share of its new level that the hit rate has soon."""
        return self.soon / self.level if self.level else float("nan")

    @classmethod
    def of(cls, outcome: Outcome, shifted: float) -> Adaptation | None:
        """From lists on a stream that shifted (or did not) before this click; None where too few came after."""
        hits, users = outcome.hits, outcome.asked.users
        shift = int(np.searchsorted(outcome.replayed.at, int(shifted)))
        if len(hits) < shift + WITHIN + WINDOW:
            return None
        before = min(5, shift // WINDOW)
        count = min(before + _LEVEL // WINDOW, (len(hits) - shift) // WINDOW + before)
        first = shift - before * WINDOW
        windows = hits[first : first + count * WINDOW].reshape(count, WINDOW).mean(axis=1)
        soon = slice(shift + WITHIN // 2, shift + WITHIN)
        after = slice(shift + WITHIN, shift + _LEVEL)
        rates = float(hits[soon].mean()), float(hits[after].mean())
        errors = standard_error(hits[soon], users[soon]), standard_error(hits[after], users[after])
        error = float(np.hypot(errors[0], rates[0] / rates[1] * errors[1]) / rates[1]) if rates[1] else float("nan")
        return cls(windows, before, *rates, error)
