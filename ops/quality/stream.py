"""A data set as arrays: who clicked what when, and the streams that are derived from it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigurationError
from models.events import Click
from ops.peers.protocol import Clicks

Ties = Literal["shuffle", "keep"]

SHORT: Final = 3
"""Clicks that a new user keeps in a stream of mostly new users."""

_SHARE: Final = 0.8
_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Stream:
    """Clicks by time.

    Attributes
    ----------
    name
        Of the data set.
    item_ids : tuple[str, ...]
        The catalogue, by row.
    users, rows, times : int64 [n]
        User numbers from 0, item rows, ms since the epoch; times do not fall.
    """

    name: str
    item_ids: tuple[str, ...]
    users: NDArray[np.int64]
    rows: NDArray[np.int64]
    times: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)

    @property
    def items(self) -> int:
        """Size of the catalogue."""
        return len(self.item_ids)

    @classmethod
    def of(cls, name: str, item_ids: Sequence[str], clicks: Sequence[Click]) -> Stream:
        """A stream of clicks on items of a catalogue.

        Raises
        ------
        ConfigurationError
            If a click is on an item that the catalogue does not have.
        """
        row = {item: i for i, item in enumerate(item_ids)}
        user: dict[str, int] = {}
        for click in clicks:
            if click.item_id not in row:
                raise ConfigurationError(f"{name}: a click on {click.item_id!r}, which is not in the catalogue")
        users = [user.setdefault(click.user_id, len(user)) for click in clicks]
        rows = [row[click.item_id] for click in clicks]
        times = np.array([click.ts for click in clicks], np.int64)
        order = np.argsort(times, kind="stable")
        return cls(name, tuple(item_ids), np.array(users, np.int64)[order], np.array(rows)[order], times[order])

    def mostly_new(self) -> Stream:
        """The same, but four of five users (drawn with a seed) keep only their first three clicks."""
        known = np.unique(self.users).tolist()
        short = np.zeros(max(known, default=0) + 1, np.bool_)
        short[random.Random(_SEED).sample(known, round(_SHARE * len(known)))] = True  # noqa: S311
        kept = ~short[self.users] | (earlier(self.users) < SHORT)
        return replace(
            self, name=f"{self.name}-new", users=self.users[kept], rows=self.rows[kept], times=self.times[kept]
        )

    def ordered(self, ties: Ties, seed: int) -> tuple[Stream, NDArray[np.int64]]:
        """The stream in the order in which it is asked, and the group of each click.

        All clicks of a group are asked for before any of them is learned. ``shuffle``: clicks of the same moment are
        put into an order by seed, each a group of its own. ``keep``: clicks of one user at one moment are a group,
        since nobody knows which came first.
        """
        n = len(self)
        if ties == "shuffle":
            order = np.lexsort((np.random.default_rng(seed).random(n), self.times))
            groups = np.arange(n)
        else:
            # a moment's groups one after another, in the order in which their users first appear in it
            _, first, inverse = np.unique(
                np.stack([self.times, self.users]), axis=1, return_index=True, return_inverse=True
            )
            order = np.lexsort((np.arange(n), first[inverse]))
            _, groups = np.unique(first[inverse][order], return_inverse=True)
        return self.taken(order), groups

    def taken(self, order: NDArray[np.int64]) -> Stream:
        """The clicks at these places."""
        return replace(self, users=self.users[order], rows=self.rows[order], times=self.times[order])

    def clicks(self, start: int, stop: int) -> Clicks:
        """A part."""
        return Clicks(self.users[start:stop], self.rows[start:stop], self.times[start:stop])


def earlier(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each place, how often its key stood before it."""
    n = len(keys)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.searchsorted(ordered, ordered)
    counts = np.empty(n, np.int64)
    counts[order] = np.arange(n) - first
    return counts


def again(stream: Stream) -> NDArray[np.bool_]:
    """Whether a click's user had clicked its item before, bool [n]."""
    return earlier(stream.users * stream.items + stream.rows) > 0
