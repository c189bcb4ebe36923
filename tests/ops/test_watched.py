"""A real Prometheus, with the rules of ops/prometheus, watches a live Strata."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count

import pytest
from bookshop import SHELVES, Bookshop, knows_the_catalogue, tiny_model, wait_for
from prometheus_server import OPS, PrometheusServer, dashboard_queries

from consumers import feedback
from models.impressions import Impression
from ops.process import Process
from producers.connection import Connection
from producers.replay import impression_message
from producers.topics import Topics

USERS = [f"reader-{n}" for n in range(320)]  # enough for layers to be seeded
CONFIG = """
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [recording.yaml, alerts.yaml]
scrape_configs:
  - job_name: strata
    static_configs: [{{targets: ["{target}"]}}]
"""


@dataclass
class Watched:
    shop: Bookshop
    process: Process
    prometheus: PrometheusServer


def hurried(rules: str) -> str:
    """The rules as they are, with seconds for minutes and hours: a test has no half-hour to wait."""
    return re.sub(r"\[\d+[mhd]\]", "[5s]", re.sub(r"for: \d+m", "for: 0s", rules))


@pytest.fixture(scope="module")
def watched(tansu: Connection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("prometheus")
    for name in ("recording.yaml", "alerts.yaml"):
        (folder / name).write_text(hurried((OPS / "prometheus" / name).read_text()))
    shop = Bookshop(tansu, Topics(prefix="watched.", partitions=2, item_partitions=2))
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(feedback, "_SURVEY_S", 0.5)
        stack.callback(shop.publisher.close)
        shop.stock()
        process = stack.enter_context(shop.running(model=tiny_model(tmp_path_factory.mktemp("tiny"), 32)))
        assert process.probes is not None
        prometheus = PrometheusServer(CONFIG.format(target=process.probes.url.removeprefix("http://")), folder)
        stack.callback(prometheus.close)
        prometheus.start()
        wait_for(lambda: process.ready, "ready")
        wait_for(knows_the_catalogue(process), "the catalogue")
        shop.readers(USERS, 2)
        wait_for(lambda: shop.counted() == shop.expected(), "every click in a profile")
        shop.readers(USERS, 1, seed=4)  # now they have lists that they may hit
        yield Watched(shop, process, prometheus)


def test_prometheus_sees_the_series_of_a_live_strata(watched: Watched) -> None:
    def unseen() -> set[str]:
        seen = set(watched.prometheus.get("label/__name__/values"))
        samples = {s.name for m in watched.process.metrics.registry.collect() for s in m.samples}
        return {name for name in samples - seen if not name.endswith("_created")}

    wait_for(lambda: not unseen(), "every series", 20)
    clicked = len(watched.shop.sent)  # the last of them are perhaps still on their way to the next scrape
    every_click = f"sum(strata_clicks_consumed_total) >= {clicked}"
    wait_for(lambda: watched.prometheus.query(every_click), every_click, 60)
    assert watched.prometheus.query('up{job="strata"} == 1')
    assert watched.prometheus.query("strata_ready == 1")


def test_prometheus_evaluates_every_rule(watched: Watched) -> None:
    def unhealthy() -> list[str]:
        groups = watched.prometheus.get("rules")["groups"]
        assert len(groups) == 2
        return [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"]

    wait_for(lambda: not unhealthy(), f"every rule evaluated: {unhealthy()}")


def busy(shop: Bookshop, round_: int) -> None:
    """Some readers are shown a book and click it, and one that is new; all move on to another."""
    now, shown = int(time.time() * 1000), list(SHELVES)
    shop.publisher.publish(
        [
            impression_message(
                Impression(
                    user_id=user, items=(f"{shown[number % len(shown)].lower()}-{(number + round_) % 10}",), ts=now
                ),
                shop.topics,
            )
            for number, user in enumerate(USERS[:60])
        ]
    )
    time.sleep(0.5)  # a click a little later is of an item that was shown
    shop.readers(USERS[:60], 1, seed=round_)
    shop.clicks((USERS[0], f"unheard-of-{round_}"))


def test_every_query_of_the_dashboards_returns_data(watched: Watched) -> None:
    watched.shop.readers(USERS, 1, seed=7)
    rounds = count(8)
    queries = {(title, query) for title, queries in dashboard_queries().items() for query in queries}
    assert len(queries) > 40

    def without_data() -> set[tuple[str, str]]:
        asked = {one: watched.prometheus.query(one[1].replace("$__rate_interval", "30s")) for one in queries}
        return {one for one, samples in asked.items() if not any(s["value"][1] != "NaN" for s in samples)}

    def all_have_it() -> bool:
        busy(watched.shop, next(rounds))
        queries.intersection_update(without_data())  # what a query had once is enough: the traffic ends
        return not queries

    try:
        wait_for(all_have_it, "data", 40)
    except AssertionError:
        assert queries == set()


def test_an_alert_fires_and_clears(watched: Watched) -> None:
    wait_for(lambda: "StrataDeadLetters" not in watched.prometheus.firing(), "quiet")
    for _ in range(20):
        watched.shop.garbage(watched.shop.topics.clicks, b"reader-0", b"no click")
    watched.shop.readers(USERS[:40], 1, seed=5)
    wait_for(lambda: "StrataDeadLetters" in watched.prometheus.firing(), "the alert")
    (alert,) = (
        a for a in watched.prometheus.get("alerts")["alerts"] if a["labels"]["alertname"] == "StrataDeadLetters"
    )
    assert alert["labels"]["role"] == "updater"
    assert re.fullmatch(r"[\d.]+% of what updater reads goes to the dead letters\.", alert["annotations"]["summary"])
    wait_for(lambda: "StrataDeadLetters" not in watched.prometheus.firing(), "the end of it")
