"""``python -m ops.bench.feed``: how much one feed serves, and how soon an open page has a list that is on the topic.

One process, one event loop, as the role runs; the clients are processes of their own on the same machine, so they and
the feed share its cores. No encoder runs. The lists are as long as the updater's, and stand on a real topic.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from prometheus_client import CollectorRegistry

from consumers.metrics import Metrics
from consumers.tables import TableReader
from models.records import LayerRef, RankedItem, Reason, Recommendation, Source
from ops.broker import EmbeddedBroker
from ops.feed import feed
from ops.settings import load
from producers.publisher import Message, Publisher

USERS: Final = 100_000
STREAMS: Final = 1_000
SECONDS: Final = 5.0
CONNECTIONS: Final = 16
PUSHES: Final = 2_000
RATE: Final = 100.0  # lists a second while pages are open


def made(user: str, offset: int) -> bytes:
    """A list of ten, with titles and reasons of usual length."""
    items = tuple(
        RankedItem(
            f"item-{n}", f"An item with a title of usual length, {n}", 3.0 - n / 10,
            Reason("Because you looked at one and another", ("item-1", "item-2"), {"co": 1.5, "text": 1.5 - n / 10}),
        )
        for n in range(10)
    )  # fmt: skip
    now = int(time.time() * 1000)
    return msgspec.json.encode(
        Recommendation(
            user_id=user, generated_at=now, event_ts=now, model="m", layers_version=1, arm="full", encoded=True,
            source=Source("clicks", 0, offset), layer=LayerRef("3.5", "Running · Outdoor"), items=items,
        )
    )  # fmt: skip


def read(host: str, port: int, seconds: float, seed: int) -> list[float]:
    """Ask for random users' lists over kept connections; the time of each answer, s."""
    draw = random.Random(seed)

    async def one() -> list[float]:
        reader, writer = await asyncio.open_connection(host, port)
        took, end = [], time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            user = f"user-{draw.randrange(USERS)}"
            writer.write(f"GET /users/{user}/recommendations HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(head.decode())
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            took.append(time.perf_counter() - began)
        writer.close()
        return took

    async def all_of_them() -> list[float]:
        return [t for found in await asyncio.gather(*(one() for _ in range(CONNECTIONS))) for t in found]

    return asyncio.run(all_of_them())


def listen(host: str, port: int, streams: int, ready: Any, stop: Any) -> list[float]:
    """Hold streams open; for each pushed list the time since it was made, s."""

    async def one(number: int, delays: list[float], opened: list[int]) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"GET /users/user-{number}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        first = True
        while line := await reader.readline():
            if not line.startswith(b"data: "):
                continue
            if first:
                first = False
                opened.append(number)
                continue
            at = int(line.partition(b'"generated_at":')[2].partition(b",")[0])
            delays.append(time.time() - at / 1000)

    async def all_of_them() -> list[float]:
        delays: list[float] = []
        opened: list[int] = []
        tasks = []
        for number in range(streams):
            tasks.append(asyncio.create_task(one(number, delays, opened)))
            if number % 50 == 49:
                await asyncio.sleep(0.02)
        while len(opened) < streams:
            await asyncio.sleep(0.05)
        ready.set()
        while not stop.is_set():
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return delays

    return asyncio.run(all_of_them())


def _in_child(work: Any, answers: Any, *arguments: Any) -> None:
    answers.put(work(*arguments))


def line(name: str, seconds: Sequence[float]) -> str:
    """A row of the table."""
    p50, p99 = np.quantile(seconds, (0.5, 0.99)) * 1000
    return f"| {name} | {len(seconds):,} | {p50:.1f} | {p99:.1f} |"


def main() -> None:
    """Fill, read, push; the section on standard output."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    context = multiprocessing.get_context("spawn")
    with EmbeddedBroker() as broker:
        settings = load(feed_port=0, feed_requests_per_second=0, feed_page=False, feed_streams_per_client=STREAMS)
        topics, connection = settings.topics, broker.connection
        topics.ensure(connection)
        publisher = Publisher(connection, limits=topics.limits)
        for start in range(0, USERS, 10_000):
            users = [f"user-{n}" for n in range(start, start + 10_000)]
            publisher.publish(Message(topics.recommendations, u.encode(), made(u, 1)) for u in users)
        metrics = Metrics(CollectorRegistry())

        def open_tables(handlers: Any, numbers: Any = None, *, since_ms: int | None = None) -> TableReader:
            return TableReader.open(connection, handlers, metrics, role="feed", numbers=numbers, since_ms=since_ms)

        role, stop = feed(settings, open_tables, publisher, metrics), threading.Event()
        thread = threading.Thread(target=role.run, args=(stop,))
        began = time.perf_counter()
        thread.start()
        while role.unready():
            time.sleep(0.05)
        loaded = time.perf_counter() - began
        host, port = role.server.url.removeprefix("http://").split(":")
        answers = context.Queue()
        child = context.Process(target=_in_child, args=(read, answers, host, int(port), SECONDS, 1))
        child.start()
        reads = answers.get(timeout=120)
        child.join()
        ready, over = context.Event(), context.Event()
        child = context.Process(target=_in_child, args=(listen, answers, host, int(port), STREAMS, ready, over))
        child.start()
        if not ready.wait(120):
            sys.exit("the streams did not open")
        start_at = time.perf_counter()
        for n in range(PUSHES):
            user = f"user-{n % STREAMS}"
            wait = start_at + n / RATE - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            publisher.publish([Message(topics.recommendations, user.encode(), made(user, 2 + n))])
        took = time.perf_counter() - start_at
        time.sleep(1)
        over.set()
        delays = answers.get(timeout=60)
        child.join()
        stop.set()
        thread.join()
        publisher.close()
    length = len(made("user-1", 1))
    print(
        f"## Feed\n\n`make bench-feed`: one process with the lists of {USERS:,} users in memory ({length:,} bytes each,"
        f" read from the embedded broker in {loaded:.0f} s). Reads: {CONNECTIONS} connections, random users,"
        f" {len(reads) / SECONDS:,.0f} requests a second. Pushes: {STREAMS:,} open streams, {PUSHES / took:,.0f} lists"
        " a second, from the making of a list (before it is produced) to the page; broker, feed and clients share the"
        " machine's cores.\n\n| | number | p50, ms | p99, ms |\n|---|---|---|---|\n"
        f"{line('a list read', reads)}\n{line('a list pushed', delays)}\n"
    )
    if len(delays) < PUSHES:
        print(f"{PUSHES - len(delays)} pushes did not arrive within a second after the last.")


if __name__ == "__main__":
    main()
