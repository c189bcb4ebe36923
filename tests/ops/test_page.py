"""The live page in a real Chromium, over a real feed, updater and broker.

``STRATA_SCREENSHOTS=ops/page/shots pytest tests/ops/test_page.py`` makes the pictures of the README.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bookshop import Bookshop, knows_the_catalogue, tiny_model, wait_for
from feed_bench import FeedBench, made
from prometheus_server import PrometheusServer

from ops.page import pages
from producers.connection import Connection
from producers.topics import Topics

SHOTS = os.environ.get("STRATA_SCREENSHOTS")
READERS = [f"reader-{n}" for n in range(64)]
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 400, "height": 860}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on the PATH: `.ci/tools .venv` installs it where it may")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class Live(NamedTuple):
    """A shop with readers, and the addresses of its page and of its metrics."""

    shop: Bookshop
    url: str
    metrics: str


@pytest.fixture(scope="module")
def live(tansu: Connection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    topics = Topics(prefix=f"page-{time.time_ns()}.", partitions=2, item_partitions=2)
    shop = Bookshop(tansu, topics, layers=4, layers_fine=4)
    shop.stock()
    roles = ["catalogue", "updater", "neighbours", "layers", "feed"]
    shop.given["model"] = tiny_model(tmp_path_factory.mktemp("tiny-page"), 32)
    with shop.running(roles) as process:
        wait_for(lambda: process.ready, "ready")
        wait_for(knows_the_catalogue(process), "the catalogue")
        for seed in range(6):  # layers begin with 256 vectors
            shop.readers(READERS, 1, seed=seed)
            wait_for(lambda: shop.counted() == shop.expected(), "every click in a profile")
        wait_for(lambda: any(r.key == b"tree" for r in shop.records(shop.topics.layers)), "layers")
        shop.readers(READERS, 1, seed=9)
        assert process.probes is not None
        yield Live(shop, str(process.feed_url), process.probes.url)
    shop.publisher.close()


def opened(browser: Any, url: str, wrong: list[str], **given: Any) -> Any:
    page = browser.new_context(**given).new_page()
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(url)
    return page


def serious(page: Any) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]


@pytest.mark.broker
@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", NARROW)])
def test_a_click_changes_the_list_and_nothing_is_wrong_with_the_page(
    browser: Any, live: Live, scheme: str, size: dict[str, int]
) -> None:
    shop, url, wrong = live.shop, live.url, list[str]()
    # axe puts its own script into the page, which the page's policy would refuse: the policy has a test of its own
    page = opened(browser, url, wrong, color_scheme=scheme, viewport=size, bypass_csp=True)
    page.wait_for_selector("#list button")  # somebody active was followed by himself
    assert page.text_content("#who").startswith("reader-")
    user = f"visitor-{scheme}"
    page.fill("#user", user)
    page.press("#user", "Enter")
    page.wait_for_function("who => document.getElementById('who').textContent === who", arg=user)
    page.wait_for_function("document.getElementById('state').textContent.startsWith('Nothing is known')")
    for number in range(2):  # first everybody's list, then his own
        first = page.locator("#list button").first
        item = first.get_attribute("data-item")
        first.focus()
        page.keyboard.press("Enter")
        gone = "item => ![...document.querySelectorAll('#list button')].some(one => one.dataset.item === item)"
        page.wait_for_function(gone, arg=item, timeout=15_000)  # how soon is for the benchmark to say: cores are shared
        assert page.text_content("#news").startswith("List refreshed")
        page.wait_for_function("n => document.querySelectorAll('#clicks .when').length === n", arg=number + 1)
        assert page.evaluate("document.activeElement.dataset.item"), "the keyboard keeps its place"
    assert (user, 2) in shop.counted().items()
    assert page.text_content("#clicks li").startswith("✓"), "it was on his list"
    page.wait_for_selector("#map .layer", state="attached")
    page.wait_for_selector("#map .one", state="attached")
    page.wait_for_function("document.querySelector('[data-chart=lists] .value').textContent !== '–'")
    for _ in range(6 if SHOTS else 1):
        shop.readers(READERS, 1, seed=int(time.time()) % 10)
        page.wait_for_timeout(1_100)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out"
    assert serious(page) == []
    assert wrong == []
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SHOTS}/{scheme}.png")
    page.context.close()


@pytest.mark.broker
def test_clicks_that_reach_the_feed_after_their_list_are_shown_all_the_same(browser: Any, live: Live) -> None:
    page = opened(browser, live.url, [])
    early: list[str] = []

    def nothing_yet(route: Any) -> None:  # the one question that the list itself asks
        early.append(route.request.url)
        route.fulfill(json={"clicks": []})

    page.route("**/live/users/reader-1", nothing_yet, times=1)
    page.fill("#user", "reader-1")
    page.press("#user", "Enter")
    # that there are none it says for the moment until it asks again, which a slow machine's test does not always see
    page.wait_for_selector("#clicks .when")
    assert len(early) == 1, "what is shown is of a later answer"
    page.context.close()


def told(page: Any, chart: str) -> tuple[str, str, bool]:
    """What stands at a chart: value, note, whether something is drawn."""
    return (
        page.text_content(f"[data-chart={chart}] .value"),
        page.text_content(f"[data-chart={chart}] .note"),
        page.is_visible(f"[data-chart={chart}] svg"),
    )


@pytest.mark.broker
def test_the_charts_show_a_cluster_whose_feed_runs_apart_and_say_what_they_lack(
    browser: Any, live: Live, tmp_path: Path
) -> None:
    shop, wrong = live.shop, list[str]()
    scraped = "{scrape_configs: [{job_name: strata, scrape_interval: 500ms, static_configs: [{targets: ['%s']}]}]}"
    prometheus = PrometheusServer(scraped % live.metrics.removeprefix("http://"), tmp_path)
    with (
        shop.running(["feed"]) as lone,
        shop.running(["feed"], feed_prometheus=f"http://127.0.0.1:{prometheus.port}") as asking,
    ):
        wait_for(lambda: lone.ready and asking.ready, "ready")
        # expressions of the test are evaluated, which the page's policy would refuse
        page = opened(browser, str(lone.feed_url), wrong, bypass_csp=True)
        page.wait_for_selector("[data-chart=lag].missing")
        shop.readers(READERS, 1, seed=3)
        drawn = "document.querySelector('[data-chart=%s] .value').textContent.match(/[1-9]/)"
        page.wait_for_function(drawn % "fresh", timeout=15_000)
        page.wait_for_function(drawn % "lists")
        assert told(page, "lists")[1:] == ("", True)
        for chart in ("hits", "lag"):
            value, note, visible = told(page, chart)
            assert (value, visible) == ("–", False)
            assert "STRATA_FEED_PROMETHEUS" in note
        page.goto(str(asking.feed_url))  # its Prometheus does not run yet
        page.wait_for_function("document.querySelector('[data-chart=lag] .note').textContent.includes('not answer')")
        assert told(page, "lag")[2] is False
        try:
            prometheus.start()
            wait_for(lambda: prometheus.query("strata_lag_seconds"), "a scrape")
            shop.readers(READERS, 1, seed=4)
            page.wait_for_function("document.querySelector('[data-chart=hits] .value').textContent.startsWith('full')")
            page.wait_for_function("!document.querySelector('[data-chart=lag]').classList.contains('missing')")
            assert told(page, "hits")[1:] == ("over the last hour", True)
            assert re.fullmatch(r"\d+ ms|[\d.]+ s", told(page, "lag")[0])
        finally:
            prometheus.close()
        assert wrong == []
        page.context.close()


def test_text_of_others_stays_text_and_the_policy_lets_nothing_else_in(browser: Any) -> None:
    bench = FeedBench(pages=pages())
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    bench.stock()
    bench.put("ann", made("ann", "tea-1").replace(b"Tea-1", evil.encode()))
    wrong: list[str] = []
    with bench.role() as role:
        page = opened(browser, role.server.url, wrong)
        page.fill("#user", "ann")
        page.press("#user", "Enter")
        page.wait_for_selector("#list button")
        assert page.text_content("#list .title") == evil
        assert page.locator("#list img, #list script").count() == 0
        assert not [message for message in wrong if "404" not in message]  # /live is not served here
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.got = 1'}))")
        assert page.evaluate("window.got") is None
        assert any("Content Security Policy" in message for message in wrong)
        page.context.close()
