"""The role ``feed``, put together from the settings."""

from __future__ import annotations

import json

from consumers.feed.app import FeedApp
from consumers.feed.hub import Hub
from consumers.feed.ingest import Ingest
from consumers.feed.redis_store import RedisStore
from consumers.feed.role import FeedRole
from consumers.feed.server import Server
from consumers.feed.shelf import Shelf
from consumers.feed.store import ListStore, MemoryStore
from consumers.feed.updaters import Here, Nowhere, Prometheus, Updaters
from consumers.feed.watch import Watch
from consumers.metrics import Metrics
from consumers.tables import OpenTables
from models.index import ItemIndex
from models.items import ItemStore
from models.weights import find_model
from ops.page import pages
from ops.settings import Settings
from producers.publisher import Publisher


def feed(
    settings: Settings, open_tables: OpenTables, publisher: Publisher, metrics: Metrics, *, alone: bool = True
) -> FeedRole:
    """The role, listening and not yet started.

    Parameters
    ----------
    alone
        Whether no updater runs in this process.

    Raises
    ------
    ConfigurationError
        If its address cannot be listened on.
    """
    # name and dimension are on disk: this role needs no model in memory
    files = find_model(settings.model, settings.model_sha256)
    dimension = int(json.loads((files.path / "config.json").read_text())["hidden_size"])
    config = settings.feed
    items = ItemStore(dimension, settings.undescribed_items)
    index = ItemIndex(items, exact_below=settings.index_exact_below, kind=settings.index)
    shelf = Shelf(items, index, files.name, settings.blocked_categories, settings.blocked_labels)
    where = settings.feed_store.get_secret_value()
    store: ListStore = MemoryStore() if where == "memory" else RedisStore(where, settings.topics.recommendations)
    hub = Hub(config.streams, config.buffer, metrics)
    ingest = Ingest(publisher.publish, config.waiting)
    topics, shown, more = settings.topics, [], {}
    if config.page:
        watch = Watch(
            shelf, metrics, updaters(settings, metrics, alone=alone), config.limits, named=not settings.pseudonyms
        )
        more = {topics.profiles: watch.take_profile}
        shown = [
            *pages(),
            ("/live/overview", "overview", watch.overview),
            ("/live/users/{user_id}", "user", watch.clicks),
        ]
    app = FeedApp(store, shelf, hub, ingest, topics, metrics, settings.pseudonyms, config, pages=shown)
    server = Server(app.asgi, settings.feed_host, settings.feed_port, config.streams, hub.close)
    return FeedRole(open_tables, topics, store, shelf, hub, server, metrics, more=more)


def updaters(settings: Settings, metrics: Metrics, *, alone: bool) -> Updaters:
    """Where the page's figures of the updaters come from: a Prometheus knows those of other processes, too."""
    if settings.feed_prometheus:
        return Prometheus(settings.feed_prometheus, settings.feed_prometheus_labels)
    return Nowhere() if alone else Here(metrics.registry)
