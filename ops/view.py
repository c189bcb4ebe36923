"""What the demo shows: everything read from the output topics and the metrics, as any user of Strata would."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Sequence
from typing import Final

import numpy as np
from prometheus_client.samples import Sample
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from consumers.client import Record
from consumers.tables import TableReader
from models.events import Click, decode_click
from models.records import LayerInfo, Recommendation, decode
from ops.demo_stream import Stream
from ops.process import Process
from ops.reading import ago, clean, list_table, read_list, where
from producers.connection import Connection

_WINDOW_S: Final = 10.0  # rates and quantiles are of the last so many seconds
_STAY_S: Final = 10.0  # how long the same user is shown
_QUIET_S: Final = 0.5  # with nothing new for so long, everything has been read
_CLICKS: Final = 10  # remembered of a user
_WIDE: Final = 120  # columns from which clicks and list stand side by side
_AROUND: Final = 19  # lines of the picture that are not places of the list
_RATES: Final = ("clicks", "users", "lists", "items")


class View:
    """Follows the topics and renders.

    Parameters
    ----------
    shop
        What is sent: titles and totals.
    rate
        Live clicks a second, as they are meant to come.
    seconds
        How long the demo runs, s.
    """

    def __init__(self, process: Process, connection: Connection, shop: Stream, rate: float, seconds: float) -> None:
        topics = process.settings.topics
        self.page_url = process.feed_url or ""
        self.metrics_url = f"{process.probes.url}/metrics" if process.probes else ""
        self._registry = process.metrics.registry
        self._totals = {"items": len(shop.items), "history": len(shop.history)}
        self._titles = {item.item_id: item.title for item in shop.items}
        self._rate = rate
        self._seconds = seconds
        self._start = time.monotonic()
        self._live_since: float | None = None  # monotonic, s
        self._live_ms = float("inf")  # since the epoch
        self._before = Counter[str]()  # counts when the live clicks began
        self._counts: deque[tuple[float, Counter[str]]] = deque([(self._start, self._sample())])
        self._recent: deque[tuple[float, float]] = deque()
        self._freshness: list[float] = []
        self._layers: dict[str, LayerInfo] = {}
        self._clicks: OrderedDict[str, deque[tuple[Click, bool]]] = OrderedDict()
        self._listed: dict[str, frozenset[str]] = {}
        self._shown: Recommendation | None = None
        self._shown_since = 0.0
        self._new: frozenset[str] = frozenset()
        self._reader = TableReader.open(
            connection,
            {topics.recommendations: self._list, topics.layers: self._layer, topics.clicks: self._click},
            role="view",
        )

    # -- what happens -------------------------------------------------------------------------------------------

    def knows_the_history(self) -> bool:
        """Whether the updater has read the whole history."""
        return self._sample()["clicks"] >= self._totals["history"]

    def goes_live(self) -> None:
        """From now on clicks come live: what follows is what the figures of quality are about."""
        self._before = self._sample()
        self._live_ms = time.time() * 1000
        self._live_since = time.monotonic()

    def follow(self, seconds: float) -> None:
        """Read what is new for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._reader.poll(min(left, 0.1))
        now = time.monotonic()
        self._counts.append((now, self._sample()))
        for window in (self._counts, self._recent):
            while window and window[0][0] < now - _WINDOW_S:
                window.popleft()

    def _list(self, record: Record) -> None:
        if record.value is None:
            return
        made, now = read_list(record.value), time.monotonic()
        before = self._listed.get(made.user_id, frozenset())
        self._listed[made.user_id] = listed = frozenset(item.item_id for item in made.items)
        if made.event_ts < self._live_ms:
            return
        fresh = (record.timestamp - made.event_ts) / 1000
        self._recent.append((now, fresh))
        self._freshness.append(fresh)
        if self._shown is not None and self._shown.user_id == made.user_id:
            self._shown, self._new = made, listed - before
        elif (self._shown is None and made.items) or (
            now - self._shown_since > _STAY_S and made.encoded and len(made.items) > 4
        ):  # an encoder that is behind is no reason to show nobody
            self._shown, self._new, self._shown_since = made, listed - before, now

    def _layer(self, record: Record) -> None:
        if (record.key or b"").startswith(b"layer/") and record.value is not None:
            info = decode(record.value, LayerInfo)
            self._layers[info.id] = info

    def _click(self, record: Record) -> None:
        click = decode_click(record.value, record.headers)
        hit = click.ts >= self._live_ms and click.item_id in self._listed.get(click.user_id, ())
        self._clicks.setdefault(click.user_id, deque(maxlen=_CLICKS)).appendleft((click, hit))

    def _sample(self) -> Counter[str]:
        # once for all: the registry would work out every metric again for each value that it is asked for
        samples: defaultdict[str, list[Sample]] = defaultdict(list)
        for metric in self._registry.collect():
            for sample in metric.samples:
                samples[sample.name].append(sample)

        def value(name: str, **labels: str) -> int:
            """The sum of those with these labels, whatever others they have."""
            return int(sum(sample.value for sample in samples[name] if labels.items() <= sample.labels.items()))

        lists = {name: value("strata_lists_published_total", encoded=name) for name in ("true", "false")}
        return Counter(
            clicks=value("strata_clicks_consumed_total"),
            users=value("strata_encoder_users_total", outlet="users"),
            items=value("strata_encoder_users_total", outlet="items"),
            lists=sum(lists.values()),
            encoded=lists["true"],
            catalogue=value("strata_catalogue_items_total", outcome="encoded"),
            hits=value("strata_hits_total", arm="full"),
            attempts=value("strata_hit_attempts_total", arm="full"),
            dead=sum(
                value("strata_dead_letters_total", role=role, stage=stage)
                for role in ("catalogue", "updater", "neighbours", "layers")
                for stage in ("decode", "validate", "apply")
            ),
        )

    # -- figures ------------------------------------------------------------------------------------------------

    def _per_second(self, name: str) -> str:
        (then, before), (now, after) = self._counts[0], self._counts[-1]
        return f"{(after[name] - before[name]) / max(now - then, 1e-9):,.0f}"

    def _live(self, name: str) -> int:
        return self._counts[-1][1][name] - self._before[name] if self._live_since is not None else 0

    def _hit_rate(self) -> str:
        attempts = self._live("attempts")
        return f"{self._live('hits') / attempts:.1%} of {attempts:,} live clicks" if attempts else "–"

    def line(self) -> str:
        """One line, where there is no terminal."""
        clicks, users, lists, items = (self._per_second(name) for name in _RATES)
        return (
            f"{time.monotonic() - self._start:4.0f} s: {clicks} clicks/s, {users} users and {items} items encoded/s,"
            f" {lists} lists/s, click → list p50 / p99 {quantiles([fresh for _, fresh in self._recent])},"
            f" hit rate {self._hit_rate()}, {len(self._coarse())} layers"
        )

    def _coarse(self) -> list[LayerInfo]:
        return sorted((info for info in self._layers.values() if info.id.isdigit()), key=lambda info: -info.size)

    # -- the picture --------------------------------------------------------------------------------------------

    def render(self, width: int, height: int) -> RenderableType:
        """The whole picture, as large as the terminal allows."""
        places = max(3, min(10, height - _AROUND - (width < _WIDE)))
        return Group(
            self._bars(),
            self._panels(width),
            Panel(
                self._user(width, places),
                title=where(self._shown) if self._shown else "one user",
                title_align="left",
                padding=(0, 1),
            ),
        )

    def _bars(self) -> Table:
        last = self._counts[-1][1]
        now = time.monotonic()
        bars = Table.grid(padding=(0, 1), expand=True)
        bars.add_column(width=9)
        bars.add_column(ratio=1)
        bars.add_column(justify="right", width=38)
        left = max(0.0, self._start + self._seconds - now)
        live = self._live("clicks")
        done = 0.0 if self._live_since is None else now - self._live_since
        history = min(last["clicks"], self._totals["history"])
        for name, part, whole, told in (
            ("catalogue", last["catalogue"], self._totals["items"],
             f"{last['catalogue']:,} of {self._totals['items']:,} items encoded"),
            ("history", history, self._totals["history"], f"{history:,} past clicks learned from"),
            ("live", done, done + left, f"{live:,} clicks, {self._rate:.0f} a second; {left:.0f} s left"),
        ):  # fmt: skip
            bars.add_row(name, ProgressBar(total=max(whole, 1e-9), completed=min(part, whole)), Text(told, "dim"))
        return bars

    def _panels(self, width: int) -> Table:
        figures = Table.grid(padding=(0, 1))
        clicks, users, lists, items = (self._per_second(name) for name in _RATES)
        for name, value in (
            ("clicks / s", clicks),
            ("users re-encoded / s", users),
            ("items encoded / s", items),
            ("lists / s", lists),
            ("click → list, p50 / p99", quantiles([fresh for _, fresh in self._recent])),
            ("live hit rate", self._hit_rate()),
            ("dead letters", f"{self._counts[-1][1]['dead']:,}"),
            ("page · metrics", f"{self.page_url} · {self.metrics_url.rpartition(':')[2]}"),
        ):
            figures.add_row(name, Text(value, style="bold cyan"))
        panels = Table.grid(expand=True)
        panels.add_column(width=min(60, width // 2 + 8))
        panels.add_column(ratio=1)
        panels.add_row(
            Panel(figures, title="now", title_align="left", height=10),
            Panel(self._layer_table(bars=width >= _WIDE), title="interest layers", title_align="left", height=10),
        )
        return panels

    def _layer_table(self, *, bars: bool) -> RenderableType:
        coarse = self._coarse()[:8]
        if not coarse:
            return Text("River is still gathering the first profiles", style="dim")
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=2, style="bold")
        table.add_column(ratio=1, no_wrap=True, style="green")
        table.add_column(width=4, justify="right", style="cyan")
        for info in coarse:
            row: list[RenderableType] = [
                info.id,
                Text(clean(info.label) or "its items have no titles yet"),
                f"{info.size:.0%}",
            ]
            if bars:
                row.append(ProgressBar(total=coarse[0].size or 1, completed=info.size, width=8, complete_style="cyan"))
            table.add_row(*row)
        return table

    def _user(self, width: int, places: int) -> RenderableType:
        made = self._shown
        if made is None:
            return Group(Text("waiting for the first live click", style="dim"), *[""] * places)
        table = list_table(made, places, wrap=False, new=self._new)
        clicks = self._clicks.get(made.user_id, ())
        if width < _WIDE:
            last = Text("last clicks  ", style="dim", no_wrap=True, overflow="ellipsis")
            for click, hit in list(clicks)[:4]:
                last.append("✓ " if hit else "", style="not dim bold green")
                last.append(f"{self._title(click)}  ", style="not dim")
            return Group(last, table)
        both = Table.grid(padding=(0, 2), expand=True)
        both.add_column(ratio=4)
        both.add_column(ratio=9)
        both.add_row(self._click_table(list(clicks)[:places]), table)
        return both

    def _click_table(self, clicks: Sequence[tuple[Click, bool]]) -> Table:
        table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
        table.add_column("", width=1, style="bold green")
        table.add_column("clicks (✓ was listed)", ratio=1, no_wrap=True)
        table.add_column("ago", width=6, justify="right", style="dim", no_wrap=True)
        for click, hit in clicks:
            table.add_row("✓" if hit else "", Text(self._title(click)), ago(time.time() - click.ts / 1000))
        return table

    def _title(self, click: Click) -> str:
        return clean(self._titles.get(click.item_id, click.item_id))

    def summary(self, *, whole: bool) -> RenderableType:
        """What there was to see, at the end; ``whole`` where no picture stands above it."""
        last = self._sample()
        self._counts.append((time.monotonic(), last))
        coarse = self._coarse()
        largest = f"; the largest, {coarse[0].size:.0%} of the activity: {clean(coarse[0].label)}" if coarse else ""
        table = Table.grid(padding=(0, 2))
        for name, value in (
            ("clicks taken", f"{last['clicks']:,}, of them {self._live('clicks'):,} live"),
            ("lists published", f"{last['lists']:,}, of them {last['encoded']:,} through BERT"),
            ("items encoded", f"{last['catalogue']:,} of {self._totals['items']:,}"),
            ("click → list, p50 / p99", f"{quantiles(self._freshness)} (live)"),
            ("live hit rate", f"{self._hit_rate()} were on an item of the user's published list"),
            ("interest layers", f"{len(coarse)}{largest}"),
            ("dead letters", f"{last['dead']:,}"),
            ("metrics were at", self.metrics_url),
        ):
            table.add_row(name, Text(value, style="bold cyan"))
        parts: list[RenderableType] = [Panel(table, title="summary", title_align="left")]
        if whole and self._shown is not None:
            parts += [where(self._shown), list_table(self._shown)]
        return Group(*parts)

    def close(self) -> None:
        """Read what was published while Strata stopped, and read no more."""
        while self._reader.poll(_QUIET_S):
            pass
        self._reader.close()


def quantiles(seconds: Sequence[float]) -> str:
    """Median and 99th percentile, in ms."""
    if not seconds:
        return "–"
    p50, p99 = np.quantile(seconds, (0.5, 0.99)) * 1000
    return f"{p50:,.0f} / {p99:,.0f} ms"
