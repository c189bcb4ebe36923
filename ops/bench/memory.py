"""What users and items cost an updater in memory, and on the topics: ``python -m ops.bench.memory``.

Resident memory of this process before and after: the model, then items with their vectors, index and full rows of
neighbours, then users as an updater keeps them (the bytes of their profiles). Users and items are made up: titles of
forty characters, random vectors, histories of known length over distinct items.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from consumers.shard import Shard
from models.encoder import Encoder
from models.events import Click
from models.index import ItemIndex
from models.items import ItemStore
from models.likeness import Likeness
from models.neighbours import WIDTH, Neighbours
from models.profile import Profile
from models.records import ItemVector, NeighbourRow, encode, half
from ops.bench.machine import cpu

_T = TypeVar("_T")

HISTORIES = (5, 20, 50)
NOW = 1_767_225_600_000


def resident() -> int:
    """Resident memory of this process, bytes; what is freed goes back to the system first (glibc)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grown(what: Callable[[], _T]) -> tuple[_T, int]:
    """What came of it, and by how many bytes the process grew."""
    before = resident()
    made = what()
    return made, resident() - before


def stock(store: ItemStore, number: int, draw: np.random.Generator) -> int:
    """Put so many items into the store; bytes of a record on the topic."""
    size = 0
    for n in range(number):
        vector = draw.normal(size=store.dimension).astype(np.float32)
        record = ItemVector(
            model="m", text_hash=bytes(16), tokens=np.arange(12, dtype="<i4").tobytes(),
            vector=half(vector / np.linalg.norm(vector)), title=f"{n:040d}", category=f"category {n % 50}",
            tags=("a", "b"),
        )  # fmt: skip
        size = len(encode(record))
        store.put(f"item-{n:07d}", record)
    return size


def connect(neighbours: Neighbours, number: int, draw: np.random.Generator) -> int:
    """Give every item a full row of neighbours; bytes of a record on the topic."""
    size = 0
    neighbours.grow()
    for n in range(number):
        others = tuple(f"item-{m:07d}" for m in draw.integers(0, number, WIDTH))
        record = NeighbourRow(count=9.0, items=others, weights=np.ones(WIDTH, "<f4").tobytes(), offsets={0: n})
        size = len(encode(record))
        neighbours.put(f"item-{n:07d}", record)
    return size


def liken(store: ItemStore, index: ItemIndex) -> Likeness:
    """Look up what every item reads like, as if somebody had clicked each."""
    likeness = Likeness(store, index)
    for start in range(0, len(store), 256):
        likeness.look_up(np.arange(start, min(start + 256, len(store))), 256)
    return likeness


def settle(store: ItemStore, users: int, history: int, draw: np.random.Generator) -> tuple[Shard, int]:
    """So many users with a history of that length, and the bytes of a profile on the topic."""
    shard = Shard(0, store, hot=1)
    records = []
    for _ in range(50):
        profile = Profile("u")
        for offset, n in enumerate(draw.choice(len(store), history, replace=False)):
            click = Click(user_id="u", item_id=f"item-{n:07d}", ts=NOW + offset, event="view", event_id=f"e-{n}")
            profile.apply(click, offset, store)
        profile.vector = draw.normal(size=store.dimension).astype(np.float32)
        profile.encoded, profile.layer = profile.applied, "3.5"
        records.append(profile.record(store, NOW))
    for n in range(users):
        shard.restore(f"user-{n:09d}", bytes(bytearray(records[n % 50])))  # each his own copy
    return shard, round(sum(map(len, records)) / len(records))


def main() -> None:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--users", type=int, default=100_000)
    options = parser.parse_args()
    draw = np.random.default_rng(7)
    started = resident()
    encoder, model = grown(lambda: Encoder.load(device="cpu", precision="fp32"))
    store = ItemStore(encoder.dimension)
    item_bytes, items = grown(lambda: stock(store, options.items, draw))
    index = ItemIndex(store)
    _, indexed = grown(index.sync)
    neighbours = Neighbours(store)
    row_bytes, rows = grown(lambda: connect(neighbours, options.items, draw))
    likeness, near = grown(lambda: liken(store, index))
    lines = [
        "## Memory of an updater",
        "",
        f"`python -m ops.bench.memory --items {options.items} --users {options.users}`, on {cpu()}. Growth of resident"
        f" memory, scaled to a million; items of {encoder.dimension} dimensions. An updater holds all items and the"
        " users of its partitions; the other roles hold a part of this.",
        "",
        "| | memory | a record on its topic |",
        "|---|--:|--:|",
        f"| the process with its libraries, before the model | {started / 1e6:,.0f} MB | |",
        f"| the model ({encoder.precision}) | {model / 1e6:,.0f} MB | |",
        _row("a million items: vectors and what ranking needs", items, options.items, item_bytes),
        _row("the index of their vectors", indexed, options.items, None),
        _row(f"their neighbours, {WIDTH} each", rows, options.items, row_bytes),
        _row(f"what they read like, {likeness.width} each", near, options.items, None),
    ]
    shards = []  # what is freed would serve the next, and hide what that one needs
    for history in HISTORIES:
        (shard, record), size = grown(partial(settle, store, options.users, history, draw))
        shards.append(shard)
        lines.append(_row(f"a million users with {history} clicks each", size, options.users, record))
    print("\n".join(lines))


def _row(what: str, grew: int, number: int, record: int | None) -> str:
    return f"| {what} | {grew / number / 1e3:,.1f} GB | {'' if record is None else f'{record:,} bytes'} |"


if __name__ == "__main__":
    main()
