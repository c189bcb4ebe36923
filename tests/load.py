"""Clicks that keep coming while a test breaks things."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from bookshop import Bookshop, wait_for

from producers.errors import PublishFailed


class Load:
    """Clicks without end, some hundred a second; a broker that is away makes it pause.

    Attributes
    ----------
    turns
        Batches acknowledged so far, five a second.
    """

    def __init__(self, shop: Bookshop, users: Sequence[str]) -> None:
        self.turns = 0
        self._shop = shop
        self._users = users
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            try:
                self._shop.readers(self._users[self.turns % 2 :: 2], 1, seed=self.turns)
            except PublishFailed:
                continue  # the next turn sends other clicks; what there is to compare with is the log
            self.turns += 1

    def more(self, turns: int) -> None:
        """Until so many more batches are acknowledged."""
        enough = self.turns + turns
        wait_for(lambda: self.turns >= enough, "clicks acknowledged", 60)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
