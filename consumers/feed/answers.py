"""The bodies of answers, beside lists."""

from __future__ import annotations

from msgspec import Struct


class Layer(Struct, frozen=True):
    """An interest layer."""

    id: str
    label: str
    size: float
    """Share of the recent activity, 0 … 1."""
    items: tuple[str, ...]
    """Its top items."""
    titles: tuple[str, ...]
    """Titles of the first of them."""
    since_ms: int
    """When it began, or began anew with another centre, ms since the epoch; 0: not known."""
    joined: float | None
    """Of the users refreshed lately who were in it or are now, the share that came from another layer, 0 … 1."""
    left: float | None
    """The share of them that went to another one."""


class Layers(Struct, frozen=True):
    """All layers, the root first."""

    version: int
    layers: tuple[Layer, ...]


class SimilarItem(Struct, frozen=True):
    """An item that is near to another by its text."""

    item_id: str
    title: str
    cosine: float


class Similar(Struct, frozen=True):
    """What is near to an item."""

    item_id: str
    items: tuple[SimilarItem, ...]


class Accepted(Struct, frozen=True):
    """A click, or an impression, that Kafka has acknowledged."""

    event_id: str
    """A second one with the same id counts once."""


class Ordered(Struct, frozen=True):
    """An erasure that Kafka has acknowledged. The role ``erasure`` logs the receipt once it is complete."""

    request_id: str
