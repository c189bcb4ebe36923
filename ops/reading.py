"""Reads what Strata has published, for people: one user's list, the layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from kafka.partitioner.default import murmur2
from rich import box
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from consumers.client import Record
from consumers.ranker import WEIGHTS
from consumers.tables import TableReader
from models.errors import InvalidEvent, StrataError
from models.pseudonyms import Pseudonyms
from models.ranker_records import RankerWeights
from models.records import LayerInfo, Recommendation, decode
from producers.connection import Connection
from producers.topics import Topics


class NothingPublished(StrataError):
    """There is no such list, or no layers yet. The message says what may be missing."""


def recommendation(
    connection: Connection, topics: Topics, user_id: str, pseudonyms: Pseudonyms = Pseudonyms(None)
) -> Recommendation:
    """A user's newest list: of several the one that follows from the latest click.

    Parameters
    ----------
    user_id
        As the clicks have it.
    pseudonyms
        The names that users are stored by.

    Raises
    ------
    NothingPublished
        If there is none.
    BrokerError
        If the topic cannot be read.
    """
    key = pseudonyms(user_id).encode()
    found: list[Recommendation] = []

    def keep(record: Record) -> None:
        if record.key != key:
            return
        if record.value is None:
            found.clear()
            return
        made = read_list(record.value)
        if not found or made.source.offset >= found[0].source.offset:
            found[:] = [made]

    partitions = TableReader.open(connection, {topics.recommendations: keep}, role="reading", numbers=())
    try:
        numbers = sorted(number for _, number in partitions.available(topics.recommendations))
        # his own partition first, as every Kafka client places a key; clicks may have been placed by another rule
        own = numbers[(murmur2(user_id.encode()) & 0x7FFFFFFF) % len(numbers)]
        for number in (own, *(number for number in numbers if number != own)):
            partitions.add([(topics.recommendations, number)])
            partitions.catch_up()
            if found:
                return found[0]
    finally:
        partitions.close()
    raise NothingPublished(
        f"no list for user {user_id!r} on topic {topics.recommendations}: has he clicked, and does `strata run` run?"
    )


def read_list(value: bytes) -> Recommendation:
    """A record of the topic ``recommendations``.

    Raises
    ------
    InvalidEvent
        If it is none: the topic was written by something else.
    """
    try:
        return msgspec.json.decode(value, type=Recommendation)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidEvent(f"Recommendation: {error}") from None


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
    return in_order(found.values())


def weights(connection: Connection, topics: Topics) -> RankerWeights:
    """The ranker's weights as they are published.

    Raises
    ------
    NothingPublished
        If there are none yet.
    """
    found: list[RankerWeights] = []

    def keep(record: Record) -> None:
        if record.key == WEIGHTS and record.value is not None:
            found[:] = [decode(record.value, RankerWeights)]

    reader = TableReader.open(connection, {topics.ranker: keep}, role="reading")
    try:
        reader.catch_up()
    finally:
        reader.close()
    if not found:
        raise NothingPublished(f"no weights on topic {topics.ranker} yet: does `strata run ranker` run?")
    return found[0]


def in_order(infos: Iterable[LayerInfo]) -> list[LayerInfo]:
    """The root, then 0, 0.0, 0.1 …, 1 …"""
    return sorted(infos, key=lambda info: [] if info.id == "root" else [int(n) for n in info.id.split(".")])


def clean(text: str) -> str:
    """Text of somebody else's for a terminal: what is not printable could be a command to it."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def list_table(made: Recommendation, rows: int | None = None, *, wrap: bool = True, new: Collection[str] = ()) -> Table:
    """A list as a table for the terminal.

    Parameters
    ----------
    rows
        At most so many places; None = all.
    wrap
        False: one line each, and what is too long ends in an ellipsis.
    new
        Item ids to be marked as not having been in the list before.
    """
    table = Table(box=box.SIMPLE_HEAD if wrap else None, expand=True, pad_edge=False, header_style="dim")
    table.add_column("#", justify="right", style="dim", width=2)
    table.add_column("refreshed list (● new)" if new else "item", ratio=4, no_wrap=not wrap)
    table.add_column("score", justify="right", width=5, style="cyan")
    table.add_column("why", ratio=6, no_wrap=not wrap)
    for place, item in enumerate(made.items[:rows], 1):
        title = Text("● " if item.item_id in new else "", style="yellow")
        title.append(clean(item.title), style="bold default")
        table.add_row(str(place), title, f"{item.score:.2f}", Text(clean(item.reason.text)))
    return table


def where(made: Recommendation) -> Text:
    """Whose list it is, and in which layer he is."""
    text = Text(clean(made.user_id), style="bold")
    if made.layer is None:
        return text.append(" · in no layer yet", style="not bold dim")
    return text.append(f" · layer {made.layer.id} ", style="not bold").append(
        clean(made.layer.label), style="not bold green"
    )


def source(made: Recommendation) -> Text:
    """When and from what it was made."""
    at = moment(made.generated_at)
    how = "re-encoded by BERT" if made.encoded else "from cached item vectors; the re-encoded list follows"
    click = f"{made.source.topic}-{made.source.partition}, offset {made.source.offset}"
    return Text(f"made {at} after the click {click}; {how}", style="dim")


def moment(ms: int) -> str:
    """A time in ms since the epoch, to the second."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(seconds: float) -> str:
    """How long ago, in the largest unit that says something."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length or (unit == "min" and seconds >= length):
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


_LEGEND: Final = (
    "interest layers: share of the activity; of the users refreshed in it, who came (+) and went (-); age; top items"
)


def layer_tree(infos: Sequence[LayerInfo], now: float) -> Tree:
    """The layers as a tree for the terminal, each with its label, its figures and its top items.

    Parameters
    ----------
    now
        s since the epoch: ages are counted up to here.
    """
    tree, branches = Tree(_LEGEND, guide_style="dim"), dict[str, Tree]()
    for info in infos:
        line = Text(f"{info.id} ", style="bold").append(clean(info.label), style="not bold green")
        line.append(f"  {info.size:.1%}", style="not bold cyan")
        if info.joined is not None and info.left is not None:
            line.append(f"  +{info.joined:.1%} -{info.left:.1%}", style="not bold yellow")
        if info.since_ms:
            line.append(f"  {ago(now - info.since_ms / 1000)}", style="not bold")
        line.append(f"  {' · '.join(map(clean, info.titles))}", style="not bold dim")
        parent = branches.get(info.id.rpartition(".")[0] or "root", tree)
        branches[info.id] = parent.add(line)
    return tree
