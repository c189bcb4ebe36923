"""A data set as a live stream: its items once, then its clicks at the pace of their times, or faster."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from models.events import Click, Item
from models.impressions import Impression
from producers.publisher import Message, Publisher
from producers.topics import Topics

Progress = Callable[[str, int], None]
"""Called after each batch with ``items`` or ``clicks`` and how many of them have been acknowledged so far."""

_BATCH: Final = 500
_TICK_S: Final = 0.005
"""Shortest wait: clicks that fall due meanwhile are published together, that much late at most."""

_encoder: Final = msgspec.json.Encoder()


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast clicks come.

    Exactly one of the two counts: ``rate`` where it is given.
    """

    speed: float | Literal["max"] = 1.0
    """Times real time; ``max`` = as fast as the broker takes them."""
    rate: float | None = None
    """Clicks per second, evenly, whatever their times."""


def replay_items(items: Iterable[Item], publisher: Publisher, topics: Topics, progress: Progress | None = None) -> int:
    """Publish the catalogue; the number of items.

    Raises
    ------
    PublishFailed
    """
    sent = 0
    for batch in _batches(items):
        publisher.publish([item_message(item, topics) for item in batch])
        sent += len(batch)
        if progress:
            progress("items", sent)
    return sent


def replay_clicks(
    clicks: Iterable[Click],
    publisher: Publisher,
    topics: Topics,
    pace: Pace = Pace(),
    *,
    restamp: bool = True,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> int:
    """Publish clicks at a pace; the number of clicks.

    Clicks are never sent ahead of their time; when the broker is slower than the pace, they go as fast as it takes
    them and the delay is made up for later.

    Parameters
    ----------
    restamp
        True: a click's ``ts`` becomes the moment at which it is due, so that freshness can be measured. False: it
        keeps its own.
    stop
        Set it to end early.
    clock, wall
        Monotonic and civil time, s.

    Raises
    ------
    PublishFailed
    """
    stop = stop or threading.Event()
    clicks = iter(clicks)
    first = next(clicks, None)
    if first is None:
        return 0
    start, sent = clock(), 0
    epoch_ms = wall() * 1000
    due: list[Click] = []
    for number, click in enumerate(itertools.chain([first], clicks)):
        offset_s = _due(number, click.ts - first.ts, pace)
        if offset_s is None:
            at_ms = int(wall() * 1000)
        else:
            at_ms = int(epoch_ms + offset_s * 1000)
            if start + offset_s > clock():
                sent += _publish_clicks(due, publisher, topics, progress, sent)
                due = []
                ahead = start + offset_s - clock()
                if ahead > 0 and stop.wait(max(ahead, _TICK_S)):
                    return sent
        due.append(msgspec.structs.replace(click, ts=at_ms) if restamp else click)
        if len(due) >= _BATCH:
            sent += _publish_clicks(due, publisher, topics, progress, sent)
            due = []
        if stop.is_set():
            break
    return sent + _publish_clicks(due, publisher, topics, progress, sent)


def by_first_click(items: Iterable[Item], clicks: Iterable[Click]) -> list[Item]:
    """The catalogue in the order in which its items are first clicked, the never clicked last.

    So the items that the first lists need are encoded first.
    """
    order: dict[str, int] = {}
    for click in clicks:
        order.setdefault(click.item_id, len(order))
    return sorted(items, key=lambda item: order.get(item.item_id, len(order)))


def item_message(item: Item, topics: Topics) -> Message:
    """An item as a message for its topic: key = item_id, value = JSON."""
    return Message(topics.items, item.item_id.encode(), _encoder.encode(item))


def click_message(click: Click, topics: Topics) -> Message:
    """A click as a message for its topic: key = user_id, value = JSON."""
    return Message(topics.clicks, click.user_id.encode(), _encoder.encode(click))


def impression_message(impression: Impression, topics: Topics) -> Message:
    """An impression as a message for its topic: key = user_id, value = JSON."""
    return Message(topics.impressions, impression.user_id.encode(), _encoder.encode(impression))


def _due(number: int, since_first_ms: int, pace: Pace) -> float | None:
    """Seconds after the start at which a click is due; None = at once."""
    if pace.rate is not None:
        return number / pace.rate
    return None if pace.speed == "max" else max(0, since_first_ms) / 1000 / pace.speed


def _publish_clicks(
    clicks: list[Click], publisher: Publisher, topics: Topics, progress: Progress | None, before: int
) -> int:
    if clicks:
        publisher.publish([click_message(click, topics) for click in clicks])
        if progress:
            progress("clicks", before + len(clicks))
    return len(clicks)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, _BATCH)):
        yield batch
