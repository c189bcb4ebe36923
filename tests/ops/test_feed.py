"""The feed in a process of all roles on a real broker, and asked whatever its OpenAPI allows."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote

import jsonschema
import pytest
import schemathesis
from arm_counts import counted
from bookshop import Bookshop, knows_the_catalogue, tiny_model, wait_for
from feed_bench import LOCAL, FeedBench, made
from hypothesis import HealthCheck, given, settings

from consumers.feed.openapi import document
from consumers.feed.role import FeedRole
from models.errors import ConfigurationError
from ops.process import Process
from producers.connection import Connection
from producers.topics import Topics

KEY = "0123456789abcdef0123456789abcdef"
TOKEN = "a token for the tests"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("tiny-feed"), 32)


@pytest.fixture
def shop(tansu: Connection, topics: Topics) -> Iterator[Bookshop]:
    shop = Bookshop(tansu, topics)
    yield shop
    shop.publisher.close()


def url_of(process: Process) -> str:
    (role,) = (loop for loop in process._loops if isinstance(loop, FeedRole))
    return role.server.url


def ask(url: str, data: object = None, method: str = "GET", **headers: str) -> dict[str, Any]:
    body = None if data is None else json.dumps(data).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named | {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return cast("dict[str, Any]", json.load(answer))


@pytest.mark.broker
def test_a_click_over_http_comes_back_as_a_list_on_the_stream_and_an_erasure_ends_it(shop: Bookshop, tiny: str) -> None:
    shop.stock()
    given = {"model": tiny, "pseudonym_key": KEY, "http_token": TOKEN}
    with shop.running(["catalogue", "updater", "layers", "erasure", "feed"], **given) as process:
        wait_for(lambda: process.ready, "ready")
        wait_for(knows_the_catalogue(process), "the catalogue")
        url = url_of(process)
        click = {"user_id": "ann", "item_id": "baking-1", "ts": int(time.time() * 1000), "event": "view"}
        with urllib.request.urlopen(f"{url}/users/ann/stream", timeout=20) as stream:
            lists = (json.loads(line[6:]) for line in stream if line.startswith(b"data: "))
            assert next(lists)["personal"] is False
            ask(f"{url}/clicks", click, "POST")
            news = next(lists)
            assert news["personal"]
            assert "baking-1" not in {item["item_id"] for item in news["items"]}
            assert next(item for item in news["items"])["reason"]["text"]
            assert "ann" not in shop.lists(), "his own id is stored nowhere"
            shown = {"user_id": "ann", "items": [item["item_id"] for item in news["items"]], "ts": click["ts"] + 1}
            ask(f"{url}/impressions", shown, "POST")
            wait_for(
                lambda: counted(process.metrics, "impressions", news["arm"]) == len(shown["items"]), "the impression"
            )
            ask(f"{url}/users/ann", method="DELETE", authorization=f"Bearer {TOKEN}")
            while next(lists)["personal"]:
                pass
        assert ask(f"{url}/users/ann/recommendations")["personal"] is False
        wait_for(lambda: not shop.lists(), "the tombstone")


@pytest.mark.broker
def test_a_port_in_use_is_told_at_the_start(shop: Bookshop, tiny: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port} for the feed is in use.*STRATA_FEED_PORT"),
            shop.running(["feed"], model=tiny, feed_port=port),
        ):
            pass


@pytest.mark.broker
def test_a_store_that_is_not_there_is_told_at_the_start(shop: Bookshop, tiny: str) -> None:
    with (
        pytest.raises(ConfigurationError, match="STRATA_FEED_STORE"),
        shop.running(["feed"], model=tiny, feed_store="redis://127.0.0.1:1/0"),
    ):
        pass


# -- OpenAPI ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def described() -> Iterator[Any]:
    """A running feed as its own description has it."""
    bench = FeedBench(LOCAL)
    bench.stock()
    bench.put("ann", made("ann", "tea-1", "rope-2"))
    with bench.role() as role:
        yield schemathesis.openapi.from_url(f"{role.server.url}/openapi.json")


OPERATIONS = [(path, verb) for path, verbs in document(LOCAL)["paths"].items() for verb in verbs]


@pytest.mark.parametrize(("path", "verb"), [one for one in OPERATIONS if not one[0].endswith("/stream")])
def test_every_answer_is_one_that_the_description_allows(described: Any, path: str, verb: str) -> None:
    @given(case=described[path][verb].as_strategy())
    @settings(
        max_examples=30, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )  # fmt: skip
    def every(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {LOCAL.token}"} if verb == "delete" else None)

    every()


def test_the_description_is_openapi_3_1_and_names_each_schema_that_it_uses() -> None:
    described = document(LOCAL)
    assert described["openapi"].startswith("3.1")
    text = json.dumps(described)
    for name, one in described["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(one)
        assert f"#/components/schemas/{quote(name)}" in text
