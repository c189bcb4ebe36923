"""Reads what Strata has published, for people: one user's list, the layers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from kafka.partitioner import DefaultPartitioner
from rich.table import Table
from rich.tree import Tree

from consumers.client import Record
from consumers.tables import TableReader
from models.errors import StrataError
from models.records import LayerInfo, Recommendation, decode
from producers.connection import Connection
from producers.topics import Topics


class NothingPublished(StrataError):
    """There is no such list, or no layers yet. The message says what may be missing."""


def recommendation(connection: Connection, topics: Topics, user_id: str) -> Recommendation:
    """A user's newest list.

    Raises
    ------
    NothingPublished
        If there is none.
    BrokerError
        If the topic cannot be read.
    """
    key = user_id.encode()
    found: list[bytes] = []

    def keep(record: Record) -> None:
        if record.key == key:
            found[:] = [] if record.value is None else [record.value]

    partitions = TableReader.open(connection, {topics.recommendations: keep}, role="reading", numbers=())
    try:
        numbers = sorted(number for _, number in partitions.available(topics.recommendations))
        # his own partition first, as every Kafka client places a key; clicks may have been placed by another rule
        own = DefaultPartitioner()(key, numbers, numbers)
        for number in (own, *(number for number in numbers if number != own)):
            partitions.add([(topics.recommendations, number)])
            partitions.catch_up()
            if found:
                return msgspec.json.decode(found[0], type=Recommendation)
    finally:
        partitions.close()
    raise NothingPublished(
        f"no list for user {user_id!r} on topic {topics.recommendations}: has he clicked, and does `strata run` run?"
    )


def layers(connection: Connection, topics: Topics) -> list[LayerInfo]:
    """The interest layers as they are published, the root first.

    Raises
    ------
    NothingPublished
        If there are none yet.
    """
    found: dict[str, LayerInfo] = {}

    def keep(record: Record) -> None:
        if (record.key or b"").startswith(b"layer/") and record.value is not None:
            info = decode(record.value, LayerInfo)
            found[info.id] = info

    reader = TableReader.open(connection, {topics.layers: keep}, role="reading")
    try:
        reader.catch_up()
    finally:
        reader.close()
    if not found:
        raise NothingPublished(
            f"no layers on topic {topics.layers} yet: does `strata run layers` run, and do users click?"
        )
    return sorted(
        found.values(), key=lambda info: (info.id != "root", [int(n) for n in info.id.split(".") if n.isdigit()])
    )


def list_table(recommendation: Recommendation) -> Table:
    """A list as a table for the terminal."""
    layer = recommendation.layer
    where = f"layer {layer.id} “{layer.label}”" if layer else "no layer yet"
    table = Table(title=f"{recommendation.user_id} · {where}", title_justify="left", expand=True)
    table.add_column("#", justify="right", style="dim", width=2)
    table.add_column("item", ratio=2, no_wrap=True)
    table.add_column("score", justify="right", width=6)
    table.add_column("why", ratio=3, style="italic", no_wrap=True)
    for place, item in enumerate(recommendation.items, 1):
        table.add_row(str(place), item.title, f"{item.score:.2f}", item.reason.text)
    return table


def layer_tree(infos: Sequence[LayerInfo], titles: dict[str, str] | None = None, top: int = 4) -> Tree:
    """The layers as a tree for the terminal; ``titles`` of items, their ids where unknown."""
    names = titles or {}

    def line(info: LayerInfo) -> str:
        items = ", ".join(names.get(item, item) for item in info.items[:top])
        return f"[bold]{info.id}[/] {info.label}  [cyan]{info.size:.1%}[/]  [dim]{items}[/]"

    tree, branches = Tree("interest layers"), dict[str, Tree]()
    for info in infos:
        parent = branches.get(info.id.rpartition(".")[0] or "root", tree)
        branches[info.id] = parent.add(line(info))
    return tree


def _place(info: LayerInfo) -> list[int]:
    """The root, then 0, 0.0, 0.1 …, 1 …"""
    return [] if info.id == "root" else [int(number) for number in info.id.split(".")]
