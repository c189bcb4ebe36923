"""What the demo shows: everything read from the output topics and the metrics."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from typing import Final

import msgspec
import numpy as np
from prometheus_client import CollectorRegistry
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from consumers.client import Record
from consumers.tables import TableReader
from models.events import Click, decode_click
from models.records import LayerInfo, Recommendation, decode
from ops.process import Process
from ops.reading import list_table
from producers.connection import Connection

_WINDOW_S: Final = 10.0  # rates and quantiles are of the last so many seconds
_STAY_S: Final = 4.0  # how long the same user is shown
_USERS: Final = 500  # whose clicks are remembered for showing
_EVENTS: Final = {"purchase": "bought", "view": "viewed", "cart": "put in the cart"}


class View:
    """Follows the topics and renders.

    Parameters
    ----------
    items, clicks
        Totals of the replay.
    rate
        Live clicks a second, as they are meant to come.
    """

    def __init__(
        self, process: Process, connection: Connection, items: int, clicks: int, rate: float, width: int
    ) -> None:
        topics = process.settings.topics
        self._registry: CollectorRegistry = process.metrics.registry
        self._metrics_url = f"{process.probes.url}/metrics" if process.probes else ""
        self._totals = {"items": items, "clicks": clicks}
        self._rate = rate
        self._width = width
        self._start = time.monotonic()
        self._sent = 0
        self._base = 0
        self._history: int | None = None
        self._freshness: deque[tuple[float, float, bool]] = deque()
        self._live: list[float] = []
        self._counts: deque[tuple[float, dict[str, float]]] = deque()
        self._layers: dict[str, LayerInfo] = {}
        self._clicks: OrderedDict[str, deque[Click]] = OrderedDict()
        self._titles: dict[str, str] = {}
        self._shown: Recommendation | None = None
        self._shown_since = 0.0
        self._lists = Counter[bool]()
        self._reader = TableReader.open(
            connection,
            {topics.recommendations: self._list, topics.layers: self._layer, topics.clicks: self._click},
            role="view",
        )

    # -- what happens -------------------------------------------------------------------------------------------

    def replayed(self, what: str, done: int) -> None:
        """Progress of the replay; called on its thread."""
        if what == "clicks":
            self._sent = self._base + done

    def history_done(self, clicks: int) -> None:
        """The history is on its topic: from now on clicks come live."""
        self._base = clicks
        self._history = clicks

    def follow(self, seconds: float) -> None:
        """Read what is new for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._reader.poll(min(left, 0.1))
        now = time.monotonic()
        self._counts.append((now, self._sample()))
        while self._counts[0][0] < now - _WINDOW_S:
            self._counts.popleft()
        while self._freshness and self._freshness[0][0] < now - _WINDOW_S:
            self._freshness.popleft()

    def _list(self, record: Record) -> None:
        if record.value is None:
            return
        made = msgspec.json.decode(record.value, type=Recommendation)
        self._titles.update((item.item_id, item.title) for item in made.items)
        self._lists[made.encoded] += 1
        now = time.monotonic()
        clicked = self._clicks.get(made.user_id)
        live = self._history is not None and clicked is not None and clicked[-1].ts / 1000 > self._live_since()
        if live:
            fresh = (record.timestamp - made.event_ts) / 1000
            self._freshness.append((now, fresh, made.encoded))
            self._live.append(fresh)
        same = self._shown is not None and self._shown.user_id == made.user_id
        if same or (now - self._shown_since > _STAY_S and len(made.items) > 3 and clicked):
            self._shown_since = self._shown_since if same else now
            self._shown = made

    def _live_since(self) -> float:
        return self._live_at

    _live_at = float("inf")

    def _layer(self, record: Record) -> None:
        if (record.key or b"").startswith(b"layer/") and record.value is not None:
            info = decode(record.value, LayerInfo)
            self._layers[info.id] = info

    def _click(self, record: Record) -> None:
        click = decode_click(record.value, record.headers)
        if self._history is not None and self._live_at == float("inf"):
            self._live_at = time.time()
        self._clicks.setdefault(click.user_id, deque(maxlen=6)).append(click)
        self._clicks.move_to_end(click.user_id)
        if len(self._clicks) > _USERS:
            self._clicks.popitem(last=False)

    def _sample(self) -> dict[str, float]:
        def value(name: str, **labels: str) -> float:
            return self._registry.get_sample_value(name, labels or None) or 0.0

        return {
            "clicks": value("strata_clicks_consumed_total"),
            "users": value("strata_encoder_users_total", outlet="users"),
            "items": value("strata_encoder_users_total", outlet="items"),
            "lists": sum(value("strata_lists_published_total", encoded=e) for e in ("true", "false")),
            "hits": value("strata_hits_total", arm="full"),
            "attempts": value("strata_hit_attempts_total", arm="full"),
            "encoded": value("strata_catalogue_items_total", outcome="encoded"),
            "dead": sum(
                value("strata_dead_letters_total", role=role, stage=stage)
                for role in ("updater", "catalogue")
                for stage in ("decode", "validate", "apply")
            ),
        }

    # -- what is shown ------------------------------------------------------------------------------------------

    def _per_second(self, name: str) -> float:
        (then, before), (now, after) = self._counts[0], self._counts[-1]
        return (after[name] - before[name]) / max(now - then, 1e-9)

    def _quantiles(self, values: list[float]) -> str:
        if not values:
            return "–"
        p50, p99 = np.quantile(values, (0.5, 0.99))
        return f"{p50 * 1000:.0f} ms / {p99 * 1000:.0f} ms"

    def _hit_rate(self) -> str:
        last = self._counts[-1][1]
        return f"{last['hits'] / last['attempts']:.1%} of {last['attempts']:,.0f}" if last["attempts"] else "–"

    def render(self) -> RenderableType:
        """The whole screen."""
        last = self._counts[-1][1]
        figures = Table.grid(padding=(0, 2))
        for name, value in (
            ("clicks / s", f"{self._per_second('clicks'):,.0f}"),
            ("users re-encoded / s", f"{self._per_second('users'):,.0f}"),
            ("lists / s", f"{self._per_second('lists'):,.0f}"),
            ("click → list, p50 / p99", self._quantiles([fresh for _, fresh, _ in self._freshness])),
            ("live hit rate", self._hit_rate()),
            ("dead letters", f"{last['dead']:,.0f}"),
            ("metrics", self._metrics_url),
        ):
            figures.add_row(name, Text(value, style="bold cyan"))
        bars = Table.grid(padding=(0, 1), expand=True)
        bars.add_column(width=18)
        bars.add_column(ratio=1)
        bars.add_column(justify="right", width=17)
        stage = "history, at speed" if self._history is None else f"live, {self._rate:.0f} / s"
        for name, done, total in (
            ("catalogue encoded", last["encoded"], self._totals["items"]),
            (stage, self._sent, self._totals["clicks"]),
        ):
            bars.add_row(name, ProgressBar(total=total, completed=min(done, total)), f"{done:,.0f} / {total:,}")
        top = Columns([Panel(figures, title="live"), Panel(self._layer_table(), title="interest layers")], expand=True)
        return Group(bars, top, Panel(self._user(), title="one user"))

    def _layer_table(self) -> RenderableType:
        coarse = [info for info in self._layers.values() if info.id.isdigit()]
        if not coarse:
            return Text("learning: no layers yet", style="dim")
        table = Table.grid(padding=(0, 1))
        for info in sorted(coarse, key=lambda info: -info.size)[:8]:
            table.add_row(info.id, Text(info.label, overflow="ellipsis", no_wrap=True), f"{info.size:.0%}")
        return table

    def _user(self) -> RenderableType:
        if self._shown is None:
            return Text("waiting for the first list", style="dim")
        clicks = self._clicks.get(self._shown.user_id, ())
        last = Text("last clicks: ", style="dim")
        for click in list(clicks)[:-6:-1]:
            last.append(f"{_EVENTS.get(click.event, click.event)} ", style="dim")
            last.append(f"{self._title(click.item_id)}   ", style="bold")
        return Group(last, list_table(self._shown))

    def _title(self, item_id: str) -> str:
        return self._titles.get(item_id, item_id)

    def line(self) -> str:
        """One line, where there is no terminal."""
        last = self._counts[-1][1]
        return (
            f"{time.monotonic() - self._start:4.0f} s  {self._per_second('clicks'):6,.0f} clicks/s  "
            f"{self._per_second('users'):4,.0f} users re-encoded/s  {self._per_second('lists'):4,.0f} lists/s  "
            f"click → list p50 / p99 {self._quantiles([fresh for _, fresh, _ in self._freshness])}  "
            f"hit rate {self._hit_rate()}  {last['encoded']:,.0f} items encoded  "
            f"{sum(info.id.isdigit() for info in self._layers.values())} layers"
        )

    def summary(self) -> RenderableType:
        """What there was to see, at the end."""
        last = self._counts[-1][1] if self._counts else self._sample()
        table = Table.grid(padding=(0, 2))
        for name, value in (
            ("clicks taken", f"{last['clicks']:,.0f}"),
            ("lists published", f"{last['lists']:,.0f} ({self._lists[True]:,} re-encoded by BERT)"),
            ("items encoded", f"{last['encoded']:,.0f} of {self._totals['items']:,}"),
            ("click → list, live, p50 / p99", self._quantiles(self._live)),
            ("live hit rate", self._hit_rate()),
            ("dead letters", f"{last['dead']:,.0f}"),
            ("metrics were at", self._metrics_url),
        ):
            table.add_row(name, Text(value, style="bold cyan"))
        parts: list[RenderableType] = [Panel(table, title="summary")]
        if self._shown is not None:
            parts += [self._user()]
        return Group(*parts)

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()
