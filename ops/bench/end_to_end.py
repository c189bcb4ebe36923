"""From a click to its list, on the embedded broker, while the encoder is half busy.

``python -m ops.bench.end_to_end``: Strata runs as its users run it (``strata run``, all roles in one process); this
process plays the shop (clicks in, one user after another, so that each click is another user's) and the page (a
consumer of the output topic). The grocery panel's first clicks go in beforehand, at speed, so that users have
histories; then clicks come at half of what the encoder was measured to do here with these histories.

Freshness is taken twice: at the broker (the list's own timestamp, given when it is produced, minus the click's time)
and at the page (when the consumer has it). Both clocks are this machine's.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from consumers.client import Record
from consumers.tables import TableReader
from models.encoder import Encoder
from models.errors import StrataError
from models.events import Click, Item
from models.records import ItemVector, Recommendation, Source, decode
from ops.bench.machine import cpu
from ops.broker import EmbeddedBroker
from ops.datasets import dataset
from ops.settings import load
from producers.connection import Connection
from producers.publisher import Publisher
from producers.replay import Pace, by_first_click, replay_clicks, replay_items
from producers.topics import Topics

DATA: Final = "completejourney"
_HISTORY: Final = 20_000  # clicks that go in beforehand
_ITEMS: Final = 4_000  # the most clicked of them
_LOAD: Final = 0.5


@dataclass(slots=True)
class Page:
    """A consumer of the output topic.

    A list counts for how long its newest click had to wait for it. One that was made without the encoder is followed by
    another with the same newest click, once BERT has read it: that one counts apart.
    """

    at_broker: list[float] = field(default_factory=list)
    at_page: list[float] = field(default_factory=list)
    encoded: int = 0
    lists: int = 0
    again: list[float] = field(default_factory=list)
    newest: dict[str, Source] = field(default_factory=dict)
    vectors: set[bytes] = field(default_factory=set)
    offsets: dict[int, int] = field(default_factory=lambda: defaultdict(lambda: -1))
    since_ms: float = float("inf")

    def list(self, record: Record) -> None:
        """Take in a list."""
        made = msgspec.json.decode(record.value or b"", type=Recommendation)
        self.offsets[made.source.partition] = max(self.offsets[made.source.partition], made.source.offset)
        if made.event_ts < self.since_ms:
            return
        if self.newest.get(made.user_id) == made.source:
            self.again.append((record.timestamp - made.event_ts) / 1000)
            return
        self.newest[made.user_id] = made.source
        self.lists += 1
        self.encoded += made.encoded
        self.at_broker.append((record.timestamp - made.event_ts) / 1000)
        self.at_page.append(time.time() - made.event_ts / 1000)

    def vector(self, record: Record) -> None:
        """Count an encoded item."""
        if record.value is not None and decode(record.value, ItemVector).vector:
            self.vectors.add(record.key or b"")


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured."""

    capacity: float
    """Users/s that the encoder does alone."""
    rate: float
    """Clicks/s sent."""
    seconds: float
    clicks: int
    lists: int
    encoded: int
    at_broker: tuple[float, ...]
    at_page: tuple[float, ...]
    again: tuple[float, ...]
    """Click → the re-encoded list that followed one made without the encoder, s."""


def capacity(encoder: Encoder, clicks: Sequence[Click], items: Sequence[Item]) -> float:
    """Users/s of the encoder alone, on the last eight titles of these clicks' users."""
    titles = {item.item_id: item.title for item in items}
    histories: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=load().encoded_clicks))
    for click in clicks:
        histories[click.user_id].appendleft(titles[click.item_id])
    tokens = [encoder.tokenise(list(history)) for history in list(histories.values())[:256]]
    inputs = encoder.inputs(tokens)
    seconds = []
    for _ in range(6):  # the best of them: what the encoder can do, not what it could beside something else
        start = time.perf_counter()
        encoder.encode(inputs)
        seconds.append(time.perf_counter() - start)
    return len(inputs) / min(seconds)


def in_turn(clicks: Iterable[Click]) -> Iterator[Click]:
    """One click of each user after another: the panel has them basket by basket, a site has them interleaved."""
    waiting: dict[str, deque[Click]] = defaultdict(deque)
    for click in clicks:
        waiting[click.user_id].append(click)
    while waiting:
        for user in list(waiting):
            yield waiting[user].popleft()
            if not waiting[user]:
                del waiting[user]


def run(seconds: float = 60.0, load_share: float = _LOAD, rate: float | None = None) -> Result:
    """Measure for so long, at so many clicks/s, or at a share of what the encoder does alone."""
    source = dataset(DATA)
    every = list(source.clicks(3 * _HISTORY))
    counts = Counter(click.item_id for click in every)
    items = sorted(source.items(), key=lambda item: -counts[item.item_id])[:_ITEMS]
    kept = {item.item_id for item in items}
    clicks = [click for click in every if click.item_id in kept]
    history, rest = clicks[:_HISTORY], clicks[_HISTORY:]
    encoder = Encoder.load()
    peak = capacity(encoder, history, items)
    del encoder
    rate = rate or load_share * peak
    live = list(in_turn(rest))[: int(rate * seconds)]
    topics = Topics()
    with EmbeddedBroker() as broker:
        connection = broker.connection
        topics.ensure(connection)
        strata = _start(connection)
        page, publisher = Page(), Publisher(connection, limits=topics.limits)
        reader = TableReader.open(connection, {topics.recommendations: page.list, topics.vectors: page.vector})
        try:
            replay_items(by_first_click(items, clicks), publisher, topics)
            _until(reader, lambda: len(page.vectors) >= len(items), strata, "the catalogue is encoded")
            replay_clicks(history, publisher, topics, Pace(speed="max"))
            _until(reader, lambda: sum(page.offsets.values()) + len(page.offsets) >= len(history), strata, "history")
            _settle(reader)  # who was served without the encoder is encoded now
            page.since_ms = time.time() * 1000
            start = time.monotonic()
            sender = threading.Thread(
                target=replay_clicks, args=(live, publisher, topics, Pace(rate=rate)), name="shop", daemon=True
            )
            sender.start()
            while sender.is_alive() or time.monotonic() - start < seconds + 3:
                reader.poll(0.1)
            took = time.monotonic() - start - 3
        finally:
            reader.close()
            publisher.close()
            strata.send_signal(signal.SIGTERM)
            strata.wait(40)
    return Result(
        peak,
        rate,
        took,
        len(live),
        page.lists,
        page.encoded,
        tuple(page.at_broker),
        tuple(page.at_page),
        tuple(page.again),
    )


def report(result: Result | None = None) -> str:
    """The figures as a section in Markdown."""
    result = result or run()
    broker, page = (np.quantile(values, (0.5, 0.9, 0.99, 1)) for values in (result.at_broker, result.at_page))
    return "\n".join(
        [
            "## From a click to its list, end to end",
            "",
            f"`python -m ops.bench.end_to_end`, on {cpu()}. Embedded broker, all roles in one process, "
            f"{_ITEMS:,} items, {_HISTORY:,} clicks of history; {result.rate:.0f} clicks/s for {result.seconds:.0f} s, "
            f"{result.rate / result.capacity:.0%} of the {result.capacity:.0f} users/s that the encoder does alone; "
            "load generator and reader run on the same cores.",
            "",
            "| | p50 | p90 | p99 | max | goal |",
            "|---|---|---|---|---|---|",
            f"| click → list at the broker | {_ms(broker)} | p50 ≤ 300 ms, p99 ≤ 1 s |",
            f"| click → list at a consumer | {_ms(page)} | |",
            "",
            f"{result.clicks:,} clicks, {result.lists:,} lists, {result.encoded / max(1, result.lists):.1%} of them "
            "re-encoded by BERT within their deadline (the others were made from cached item vectors). Counted is the "
            f"first list that holds a click; {_followed(result.again)}.",
        ]
    )


def _followed(again: Sequence[float]) -> str:
    if not again:
        return "no second one followed"
    half, late = np.quantile(again, (0.5, 0.99))
    return (
        f"a second one, re-encoded, followed {len(again):,} times, {half:.1f} s (p50) and {late:.1f} s (p99)"
        " after the click"
    )


def _ms(quantiles: Iterable[float]) -> str:
    return " | ".join(f"{1000 * q:.0f} ms" for q in quantiles)


def _start(connection: Connection) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "STRATA_KAFKA_BOOTSTRAP": connection.bootstrap,
        "STRATA_HTTP_PORT": "0",
        "STRATA_LOG_LEVEL": "warning",
    }
    return subprocess.Popen(
        [sys.executable, "-c", "from ops.cli import main; main()", "run"], env=environment, start_new_session=True
    )


def _settle(reader: TableReader, quiet_s: float = 3.0, timeout_s: float = 120.0) -> None:
    """Read until no list has come for a while."""
    deadline, last = time.monotonic() + timeout_s, time.monotonic()
    while time.monotonic() - last < quiet_s and time.monotonic() < deadline:
        if reader.poll(0.1):
            last = time.monotonic()


def _until(
    reader: TableReader, done: Callable[[], bool], strata: subprocess.Popen[bytes], what: str, timeout_s: float = 240
) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        reader.poll(0.1)
        if strata.poll() is not None:
            raise StrataError(f"strata run ended with {strata.returncode} before {what}")
        if time.monotonic() > deadline:
            raise StrataError(f"{timeout_s:.0f} s were not enough: {what}")


def main() -> None:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--load", type=float, default=_LOAD, help="share of the encoder's capacity")
    parser.add_argument("--rate", type=float, help="clicks/s, whatever the encoder does: to compare settings")
    arguments = parser.parse_args()
    print(report(run(arguments.seconds, arguments.load, arguments.rate)))


if __name__ == "__main__":
    main()
