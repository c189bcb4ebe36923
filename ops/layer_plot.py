"""A picture of the interest map: users as points, coloured by their layer, and the layers' names where they lie."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from consumers.client import Record
from consumers.layers import TREE
from consumers.tables import TableReader
from models.errors import ConfigurationError
from models.layer_map import LayerMap
from models.records import LayerInfo, LayerTree, ProfileRecord, decode, from_half
from ops.figures import new_figure
from ops.reading import NothingPublished, clean, layers
from producers.connection import Connection
from producers.topics import Topics

SUFFIXES: Final = (".svg", ".png", ".pdf")
_USERS: Final = 5_000  # drawn at most: the last ones that were read
_LABEL: Final = 32  # characters


def plot_layers(connection: Connection, topics: Topics, path: Path) -> list[LayerInfo]:
    """Draw the layers and the users in them as they are published; what was drawn, the root first.

    A picture holds no user's name. Its plane is that of the page's map (:class:`~models.layer_map.LayerMap`).

    Parameters
    ----------
    path
        Where to; its suffix says in which format.

    Raises
    ------
    ConfigurationError
        If there is no matplotlib, or the suffix is another one.
    NothingPublished
        If there are no layers yet.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigurationError(f"{path}: a picture ends in {', '.join(SUFFIXES)}")
    infos = layers(connection, topics)
    trees: list[LayerTree] = []
    profiles: dict[bytes, ProfileRecord] = {}

    def tree(record: Record) -> None:
        if record.key == TREE and record.value is not None:
            trees[:] = [decode(record.value, LayerTree)]

    def profile(record: Record) -> None:
        profiles.pop(record.key or b"", None)
        if record.value is not None:
            profiles[record.key or b""] = decode(record.value, ProfileRecord)
            if len(profiles) > _USERS:
                del profiles[next(iter(profiles))]

    reader = TableReader.open(connection, {topics.layers: tree, topics.profiles: profile}, role="reading")
    try:
        reader.catch_up()
    finally:
        reader.close()
    if not trees:
        raise NothingPublished(
            f"no layers to draw on topic {topics.layers} yet: they form once some hundreds of users have clicked, while"
            " `strata run layers` runs"
        )
    draw(trees[0], infos, list(profiles.values()), path)
    return infos


def draw(tree: LayerTree, infos: Sequence[LayerInfo], users: Sequence[ProfileRecord], path: Path) -> None:
    """Draw these; see :func:`plot_layers`."""
    labels = {info.id: info for info in infos}
    plane = LayerMap()
    plane.put(tree)
    colours = [colorsys.hls_to_rgb(i / len(plane.coarse), 0.45, 0.6) for i in range(len(plane.coarse))]
    points, of = [], []
    for user in users:
        place = plane.place(from_half(user.vector)) if user.vector and user.layer else None
        if place is not None and (number := int(user.layer.partition(".")[0])) < len(colours):
            points.append(place)
            of.append(colours[number])
    figure = new_figure(10, 8)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title(f"{len(points):,} users in {len(plane.coarse)} interest layers")
    if points:
        x, y = np.array(points).T
        axes.scatter(x, y, s=8, c=of, alpha=0.45, linewidths=0)
    for number, (at_x, at_y) in enumerate(plane.coarse.tolist()):
        info = labels.get(str(number))
        if info is None:
            continue
        axes.scatter([at_x], [at_y], s=40 + 3_000 * info.size, color=[colours[number]], alpha=0.25, linewidths=0)
        label = clean(info.label)
        label = label if len(label) <= _LABEL else label[: _LABEL - 1] + "…"
        # not parsed: what somebody calls an item is no formula
        axes.annotate(f"{label} {info.size:.0%}", (at_x, at_y), ha="center", va="center", fontsize=9, parse_math=False)
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
