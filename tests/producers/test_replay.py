"""A data set as a live stream, on a clock of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import msgspec
import pytest

from models.events import Click, Item, decode_click, decode_item
from producers.publisher import Message
from producers.replay import Pace, by_first_click, replay_clicks, replay_items
from producers.topics import Topics

TOPICS = Topics()


class Stream:
    """A publisher, a clock, and a stop event that waits by turning the clock."""

    def __init__(self) -> None:
        self.now = 50.0
        self.published: list[tuple[float, Message]] = []
        self.stop = threading.Event()
        self.stop.wait = self.wait  # type: ignore[method-assign, assignment]

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.stop.is_set()

    def publish(self, messages: Iterable[Message]) -> None:
        self.published += [(self.now, message) for message in messages]

    def replay(self, clicks: list[Click], pace: Pace, *, restamp: bool = True) -> list[tuple[float, Click]]:
        number = replay_clicks(
            clicks, self, TOPICS, pace, restamp=restamp, stop=self.stop,  # type: ignore[arg-type]
            clock=lambda: self.now, wall=lambda: self.now + 1_000,
        )  # fmt: skip
        assert number == len(self.published)
        return [(at - 50, decode_click(message.value)) for at, message in self.published]


@pytest.fixture
def stream() -> Stream:
    return Stream()


def clicks(*times_s: float) -> list[Click]:
    return [Click(user_id=f"u{n}", item_id="i", ts=int(1e12 + t * 1000)) for n, t in enumerate(times_s)]


def test_clicks_come_at_their_pace_and_never_early(stream: Stream) -> None:
    got = stream.replay(clicks(0, 10, 10, 25), Pace(speed=5))
    assert [at for at, _ in got] == pytest.approx([0, 2, 2, 5], abs=0.006)
    assert all(at * 1000 >= click.ts - 1_050_000 for at, click in got)


def test_a_restamped_click_says_when_it_was_due(stream: Stream) -> None:
    got = stream.replay(clicks(0, 10), Pace(speed=1))
    assert [click.ts for _, click in got] == [1_050_000, 1_060_000]


def test_without_restamp_a_click_keeps_its_time(stream: Stream) -> None:
    original = clicks(0, 10, 11)
    assert [click for _, click in stream.replay(original, Pace(speed=100), restamp=False)] == original


def test_a_rate_spreads_clicks_evenly_whatever_their_times(stream: Stream) -> None:
    got = stream.replay(clicks(0, 0, 0, 9_999, 9_999), Pace(rate=10))
    assert [at for at, _ in got] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=0.006)


def test_max_does_not_wait(stream: Stream) -> None:
    got = stream.replay(clicks(*range(1_234)), Pace(speed="max"))
    assert len(got) == 1_234
    assert stream.now == 50


def test_a_stop_ends_it(stream: Stream) -> None:
    stream.stop.set()
    assert len(stream.replay(clicks(0, 10, 20), Pace(speed=1))) <= 1


def test_messages_are_keyed_and_decode_to_what_was_sent(stream: Stream) -> None:
    items = [Item(item_id=f"i{n}", title="Tea", tags=("warm",)) for n in range(1_001)]
    progress: list[tuple[str, int]] = []
    assert replay_items(items, stream, TOPICS, lambda *p: progress.append(p)) == 1_001  # type: ignore[arg-type]
    assert progress == [("items", 500), ("items", 1_000), ("items", 1_001)]
    assert [decode_item(m.value) for _, m in stream.published] == items
    assert {m.topic for _, m in stream.published} == {"items"}
    assert [m.key for _, m in stream.published] == [item.item_id.encode() for item in items]

    stream.published.clear()
    original = [msgspec.structs.replace(click, event="cart", value=2.5, event_id="e") for click in clicks(0)]
    assert [click for _, click in stream.replay(original, Pace(speed="max"), restamp=False)] == original
    assert stream.published[0][1].key == b"u0"


def test_the_items_of_the_first_clicks_come_first() -> None:
    items = [Item(item_id=name, title=name) for name in "abcd"]
    stream = [Click(user_id="u", item_id=name, ts=n) for n, name in enumerate("cac")]
    assert [item.item_id for item in by_first_click(items, stream)] == ["c", "a", "b", "d"]
