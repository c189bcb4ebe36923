"""How the updaters fare, for the page: their lag and their lists' hit rate, from here or from a Prometheus."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from prometheus_client import CollectorRegistry

log = logging.getLogger(__name__)

_EVERY_S: Final = 5.0
"""Prometheus is asked this often at most, however many pages are open."""
_PATIENCE_S: Final = 3.0
"""What an answer may take, all its queries together."""
_STALE_S: Final = 20.0
"""Older figures are not shown any more."""
_LONGEST: Final = 64 * 1024
"""Bytes of an answer."""


class Figures(NamedTuple):
    """What is known of them."""

    lag: float | None = None
    """Of the partition that waits longest, s."""
    hits: dict[str, float] | None = None
    """By arm, the share of clicks that were on an item of the user's list; an arm without such clicks is not in it."""
    over: str = ""
    """Which time ``hits`` is of."""
    missing: str = ""
    """Why nothing is known."""


class Updaters(Protocol):
    """Where figures come from."""

    def figures(self) -> Figures:
        """As of now, at once: called on the event loop."""
        ...


class Nowhere:
    """:class:`Updaters` that run in processes of which nothing is told here."""

    def figures(self) -> Figures:
        """See :class:`Updaters`."""
        return Figures(
            missing="The updaters run elsewhere: name a Prometheus that scrapes them (STRATA_FEED_PROMETHEUS)."
        )


class Here:
    """:class:`Updaters` of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def figures(self) -> Figures:
        """See :class:`Updaters`."""
        lags: list[float] = []
        counts: dict[str, list[float]] = {}
        for metric in self._registry.collect():
            for sample in metric.samples:
                match sample.name:
                    case "strata_lag_seconds" if sample.labels["role"] == "updater":
                        lags.append(sample.value)
                    case "strata_hits_total":
                        counts.setdefault(sample.labels["arm"], [0.0, 0.0])[0] += sample.value
                    case "strata_hit_attempts_total":
                        counts.setdefault(sample.labels["arm"], [0.0, 0.0])[1] += sample.value
        hits = {arm: hit / tries for arm, (hit, tries) in counts.items() if tries}
        return Figures(max(lags, default=None), hits, "since the start")


class Prometheus:
    """:class:`Updaters` as a Prometheus knows them (its HTTP API, https://prometheus.io/docs/prometheus/latest/querying/api).

    Nobody waits for it: a look returns what the last question brought, and asks again on a thread of its own, one at a
    time, when that is old.

    Parameters
    ----------
    url
        Of the server, as ``http://prometheus:9090``.
    labels
        Matchers of the series that are of this deployment, as ``namespace="shop"``.
    """

    def __init__(self, url: str, labels: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url.rstrip("/") + "/api/v1/query"
        self._clock = clock
        of, updaters = f"{{{labels}}}", ", ".join(filter(None, ['role="updater"', labels]))
        self._lag = f"max(strata_lag_seconds{{{updaters}}})"
        self._hits = (
            f"sum by (arm) (increase(strata_hits_total{of}[1h]))"
            f" / (sum by (arm) (increase(strata_hit_attempts_total{of}[1h])) > 0)"
        )
        self._lock = threading.Lock()
        self._asking = False
        self._next = -math.inf
        self._known = Figures(missing="Prometheus is being asked.")
        self._until = math.inf

    def figures(self) -> Figures:
        """See :class:`Updaters`."""
        now = self._clock()
        with self._lock:
            if not self._asking and now >= self._next:
                self._asking = True
                threading.Thread(target=self._look, name="feed-prometheus", daemon=True).start()
            return self._known if now < self._until else Figures(missing="Prometheus does not answer any more.")

    def _look(self) -> None:
        try:
            ends = time.monotonic() + _PATIENCE_S
            lags, hits = self._ask(self._lag, ends), self._ask(self._hits, ends)
            found = Figures(
                next((value for _, value in lags), None),
                {labels.get("arm", ""): value for labels, value in hits},
                "over the last hour",
                "" if lags else "Prometheus knows no updater: does it scrape them?",
            )
        except Exception as error:  # whatever stands there may answer anything
            found = None
            log.debug("the page's figures cannot be had from Prometheus: %s", error)
        with self._lock:
            self._asking = False
            self._next = self._clock() + _EVERY_S
            if found is not None:
                self._known, self._until = found, self._clock() + _STALE_S
            elif self._known.missing:
                self._known = Figures(missing="Prometheus does not answer (STRATA_FEED_PROMETHEUS).")

    def _ask(self, query: str, ends: float) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each sample that is a number."""
        url = f"{self._url}?{urllib.parse.urlencode({'query': query, 'timeout': f'{_PATIENCE_S:.0f}s'})}"
        body = b""
        with urllib.request.urlopen(url, timeout=max(0.1, ends - time.monotonic())) as answer:  # noqa: S310 (the setting)
            while more := answer.read1(_LONGEST):
                body += more
                if len(body) > _LONGEST or time.monotonic() > ends:
                    raise ValueError("the answer is too long, or comes too slowly")
        samples: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        found = [(sample["metric"], float(sample["value"][1])) for sample in samples]
        return [(labels, value) for labels, value in found if math.isfinite(value)]
