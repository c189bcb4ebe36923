"""The prequential protocol: every click is asked for before it is learned, by all peers alike.

Clicks go through in blocks of 64. A user's history is live within a block; what a model makes of clicks comes with
the next block, as it reaches the live updater through its topics a moment later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import process_time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ops.measures import CUTOFF
from ops.peers.protocol import HISTORY, Peer, Questions
from ops.quality.stream import Stream, Ties, again

BLOCK: Final = 64
"""Clicks between two updates of a peer's model."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is asked, and how.

    Parameters
    ----------
    start, stop
        Shares of the stream: clicks before ``start`` are learned only, those from ``stop`` on are left away.
    ties
        See :meth:`ops.quality.stream.Stream.ordered`.
    repeats
        Whether an item that its user clicked before may be offered, and is asked for. Without, only first clicks on
        an item are asked for.
    every
        Ask for each so-manieth of these clicks only (to tune with less).
    """

    start: float = 0.3
    stop: float = 1.0
    ties: Ties = "shuffle"
    repeats: bool = False
    every: int = 1
    seed: int = 7


@dataclass(slots=True)
class Replayed:
    """What a peer answered.

    Attributes
    ----------
    at : int64 [asked]
        Places in the ordered stream.
    lists : int32 [asked, 10]
        Item rows, -1 past a list's end.
    ask_s, learn_s
        CPU time, s.
    clicks
        Learned.
    """

    at: NDArray[np.int64]
    lists: NDArray[np.int32]
    ask_s: float
    learn_s: float
    clicks: int


class _Histories:
    """Every user's clicks so far."""

    def __init__(self, users: int) -> None:
        self.rows: list[list[int]] = [[] for _ in range(users)]
        self.seen: list[set[int]] = [set() for _ in range(users)]

    def add(self, user: int, row: int) -> None:
        self.rows[user].append(row)
        self.seen[user].add(row)


def replay(peer: Peer, stream: Stream, protocol: Protocol) -> Replayed:
    """Ask a peer, and teach it, through a stream."""
    ordered, groups = stream.ordered(protocol.ties, protocol.seed)
    n = round(protocol.stop * len(ordered))
    start = round(protocol.start * len(ordered))
    wanted = np.ones(len(ordered), np.bool_) if protocol.repeats else ~again(ordered)
    wanted[:start] = False
    places = np.flatnonzero(wanted)
    wanted[np.delete(places, np.s_[:: protocol.every])] = False
    histories = _Histories(int(ordered.users.max(initial=-1)) + 1)
    at: list[int] = []
    lists: list[NDArray[np.int32]] = []
    ask_s = learn_s = 0.0
    for first, last in blocks(groups, n):
        questions = list(_asked(ordered, groups, histories, wanted, first, last, protocol.repeats))
        if questions:
            asked = _batch(questions, int(ordered.times[last - 1]), ordered.items)
            began = process_time()
            made = peer.recommend(asked, CUTOFF)
            ask_s += process_time() - began
            at.extend(place for place, *_ in questions)
            lists.append(made.astype(np.int32))
        began = process_time()
        peer.learn(ordered.clicks(first, last))
        learn_s += process_time() - began
    made_lists = np.concatenate(lists) if lists else np.empty((0, CUTOFF), np.int32)
    return Replayed(np.array(at, np.int64), made_lists, ask_s, learn_s, n)


def blocks(groups: NDArray[np.int64], n: int) -> Iterator[tuple[int, int]]:
    """(first, end) of whole groups, at least :data:`BLOCK` clicks each but for the last, of the first ``n``."""
    first = 0
    while first < n:
        last = min(first + BLOCK, n)
        while last < n and groups[last] == groups[last - 1]:
            last += 1
        yield first, last
        first = last


_Question = tuple[int, int, list[int], int, list[int]]


def _asked(
    stream: Stream,
    groups: NDArray[np.int64],
    histories: _Histories,
    wanted: NDArray[np.bool_],
    first: int,
    last: int,
    repeats: bool,
) -> Iterator[_Question]:
    """(place, user, history newest first, length, seen) for each wanted click of a block; histories move on."""
    place = first
    while place < last:
        end = place + 1
        while end < last and groups[end] == groups[place]:
            end += 1
        for click in range(place, end):
            if wanted[click]:
                user = int(stream.users[click])
                rows = histories.rows[user]
                seen = [] if repeats else list(histories.seen[user])
                yield click, user, rows[: -HISTORY - 1 : -1], len(rows), seen
        for click in range(place, end):
            histories.add(int(stream.users[click]), int(stream.rows[click]))
        place = end


def _batch(questions: list[_Question], now: int, items: int) -> Questions:
    b = len(questions)
    histories = np.full((b, HISTORY), -1, np.int64)
    for i, (_, _, rows, _, _) in enumerate(questions):
        histories[i, : len(rows)] = rows
    seen = [np.array(known, np.int64) + i * items for i, (*_, known) in enumerate(questions)]
    return Questions(
        users=np.array([user for _, user, *_ in questions], np.int64),
        histories=histories,
        lengths=np.array([length for *_, length, _ in questions], np.int64),
        seen=np.concatenate(seen),
        now=now,
        items=items,
    )
