"""What the page shows beside lists: who is active and where, the layers, and how it all runs."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from consumers.client import Record
from consumers.feed.requests import identifier
from consumers.feed.shelf import Shelf
from consumers.feed.updaters import Updaters
from consumers.metrics import Metrics
from models.events import Limits
from models.layer_map import LayerMap
from models.records import ProfileRecord, decode, from_half

_USERS: Final = 500
"""Active users that are remembered."""
_SHOWN: Final = 120
"""Those that the map shows."""
_CLICKS: Final = 10


class Active(NamedTuple):
    """A user as his newest profile has him."""

    clicks: tuple[tuple[str, int, str], ...]
    """Newest first: item, ms since the epoch, kind."""
    layer: str
    place: tuple[float, float] | None
    at: int


class Watch:
    """Fed from ``profiles`` on the reader's thread, asked on the event loop.

    Parameters
    ----------
    metrics
        Where the role counts the lists that it reads, and how fresh they are.
    updaters
        Where the figures of the updaters come from.
    named
        Whether users are stored by their own ids, so that a page can ask for them.
    """

    def __init__(
        self,
        shelf: Shelf,
        metrics: Metrics,
        updaters: Updaters,
        limits: Limits,
        *,
        named: bool,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._shelf = shelf
        self._metrics = metrics
        self._updaters = updaters
        self._limits = limits
        self._named = named
        self._wall = wall
        self._lock = threading.Lock()
        self._users: OrderedDict[str, Active] = OrderedDict()
        self._map = LayerMap()
        self._version = -1

    def take_profile(self, record: Record) -> None:
        """A record of ``profiles``."""
        user_id = (record.key or b"").decode(errors="replace")
        if record.value is None:
            with self._lock:
                self._users.pop(user_id, None)
            return
        profile = decode(record.value, ProfileRecord)
        tree = self._shelf.tree
        if tree is not None and tree.version != self._version:
            self._version = tree.version
            self._map.put(tree)
        place = self._map.place(from_half(profile.vector)) if profile.vector else None
        clicks = tuple((entry.item_id, entry.ts, entry.event) for entry in profile.history[: -_CLICKS - 1 : -1])
        with self._lock:
            self._users.pop(user_id, None)
            self._users[user_id] = Active(clicks, profile.layer, place, record.timestamp)
            if len(self._users) > _USERS:
                self._users.popitem(last=False)

    async def overview(self, _request: Request) -> Response:
        """All that the page draws, as of now."""
        with self._lock:
            users = list(self._users.items())[: -_SHOWN - 1 : -1]
        layers = []
        for number, place in enumerate(self._map.coarse.tolist()):
            info = self._shelf.layers.get(str(number))
            if info is not None:
                layers.append(
                    {
                        "id": info.id, "label": info.label, "size": info.size, "x": place[0], "y": place[1],
                        "since": info.since_ms, "joined": info.joined, "left": info.left,
                    }
                )  # fmt: skip
        found = {
            "at": int(self._wall() * 1000),
            "named": self._named,
            "users": [
                {"id": user if self._named else "", "layer": one.layer, "place": one.place, "at": one.at}
                for user, one in users
            ],
            "layers": layers,
            "figures": self._figures(),
        }
        return _json(found)

    async def clicks(self, request: Request) -> Response:
        """What a user clicked last."""
        user_id = identifier(request, "user_id", self._limits)
        with self._lock:
            active = self._users.get(user_id) if self._named else None
        return _json(
            {
                "clicks": [
                    {"item_id": item, "title": self._title(item), "ts": ts, "event": event}
                    for item, ts, event in (active.clicks if active else ())
                ]
            }
        )

    def _title(self, item_id: str) -> str:
        facts = self._shelf.facts(item_id)
        return facts.title if facts else item_id

    def _figures(self) -> dict[str, Any]:
        """Counts as they stand: rates and quantiles are for whoever asks twice."""
        samples = [sample for metric in self._metrics.feed_freshness.collect() for sample in metric.samples]
        return {
            "lists": next((s.value for s in samples if s.name.endswith("_count")), 0.0),
            "freshness": [[s.labels["le"], s.value] for s in samples if s.name.endswith("_bucket")],
            "updaters": self._updaters.figures()._asdict(),
        }


def _json(found: object) -> Response:
    return Response(msgspec.json.encode(found), media_type="application/json", headers={"cache-control": "no-store"})
