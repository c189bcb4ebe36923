"""What is replayed: baskets of the grocery panel side by side, as in the demo, and users who never come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import msgspec
import numpy as np
from bookshop import Bookshop

from models.events import Click, Item
from models.items import ItemStore
from models.profile import Profile
from ops.datasets import dataset
from ops.demo_stream import stream
from producers.errors import PublishFailed
from producers.publisher import Message
from producers.replay import click_message

BYSTANDER = "bystander-"


def replayed(clicks: int, items: int) -> tuple[list[Item], list[Click]]:
    """Clicks of the panel's households on its most bought items, and these items."""
    chosen = stream(dataset("completejourney"), 0, 4 * clicks, at_once=40)
    counts: dict[str, int] = {}
    for click in chosen.live:
        counts[click.item_id] = counts.get(click.item_id, 0) + 1
    most = set(sorted(counts, key=lambda item: -counts[item])[:items])
    live = [click for click in chosen.live if click.item_id in most]
    return [item for item in chosen.items if item.item_id in most], list(islice(live, clicks))


class Feed:
    """Clicks at a steady rate, now and then one that nobody can read; a broker that is away makes it wait.

    Attributes
    ----------
    sent
        Clicks acknowledged.
    """

    def __init__(self, shop: Bookshop, clicks: Sequence[Click], rate: float) -> None:
        self.sent = 0
        self._shop = shop
        self._clicks = clicks
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began, next_click = time.monotonic(), 0
        while not self._stop.wait(0.1) and next_click < len(self._clicks):
            due = min(int((time.monotonic() - began) * self._rate), next_click + 500)
            now = int(time.time() * 1000)
            messages = [
                click_message(msgspec.structs.replace(click, ts=now), self._shop.topics)
                for click in self._clicks[next_click:due]
            ]
            if next_click // 200 != due // 200:
                messages.append(Message(self._shop.topics.clicks, b"x", b"\xffno click"))
            try:
                self._shop.publisher.publish(messages)
            except PublishFailed:
                continue  # the broker is away; what it had taken comes twice, as it does in real life
            self.sent += len(messages)
            next_click = max(next_click, due)


def bystanders(shop: Bookshop, number: int, items: Sequence[Item], dimension: int, progress: Callable[[], None]) -> int:
    """Publish so many profiles as Strata writes them, of users who clicked long ago; bytes of one."""
    store, now = ItemStore(dimension), int(time.time() * 1000)
    draw = np.random.default_rng(5)
    records = []
    for n in range(200):
        vector = draw.normal(size=dimension).astype(np.float32)
        profile = Profile(f"{BYSTANDER}{n}", vector=vector / np.linalg.norm(vector))
        for turn, item in enumerate(draw.choice(len(items), 20)):
            profile.apply(Click(user_id="x", item_id=items[item].item_id, ts=now - 10**9 + turn), turn, store)
        # as if nothing of this log, which is empty, had been applied; and long learned from
        profile.applied, profile.encoded, profile.fresh = -1, -1, 0
        records.append(profile.record(store, now - 10**9))

    def messages() -> Iterator[Message]:
        for n in range(number):
            if n % 10_000 == 0:
                progress()
            yield Message(shop.topics.profiles, f"{BYSTANDER}{n}".encode(), records[n % len(records)],
                          n % shop.topics.partitions)  # fmt: skip

    shop.publisher.publish(messages())
    return len(records[0])
