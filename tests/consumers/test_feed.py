"""The feed over HTTP: the role on its thread, a real server, real sockets; its topics are fed by hand."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from feed_bench import LOCAL, FeedBench, limits, made

from consumers.feed.config import FeedConfig
from consumers.feed.first_lists import FirstLists
from models.pseudonyms import Pseudonyms
from models.records import Source
from producers.errors import PublishFailed

KEY = b"sixteen bytes it is"


class Client:
    """One address that asks."""

    def __init__(self, url: str) -> None:
        self.host, self.port = urlsplit(url).hostname or "", urlsplit(url).port

    def __call__(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            data = answer.read()
            kind = answer.headers.get("content-type", "")
            told = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, told, json.loads(data) if "json" in kind else data
        finally:
            connection.close()

    def stream(self, path: str, **headers: str) -> Events:
        return Events(self, path, {name.replace("_", "-"): value for name, value in headers.items()})


class Events:
    """A page that listens."""

    def __init__(self, client: Client, path: str, headers: dict[str, str]) -> None:
        self.connection = http.client.HTTPConnection(client.host, client.port, timeout=10)
        self.connection.request("GET", path, headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()

    def next(self) -> dict[str, str]:
        """The next block: an event's fields, or a comment under the empty name."""
        fields: dict[str, str] = {}
        while line := self.answer.readline().decode().rstrip("\n"):
            name, _, value = line.partition(":")
            fields[name] = value.strip()
        return fields

    def list(self) -> dict[str, Any]:
        """The next list."""
        while (fields := self.next()).get("event") != "list":
            assert fields, "the stream has ended"
        return json.loads(fields["data"]) | {"id": fields["id"]}  # type: ignore[no-any-return]

    def close(self) -> None:
        self.connection.close()
        self.answer.close()


@pytest.fixture
def bench() -> FeedBench:
    bench = FeedBench()
    bench.stock()
    return bench


@pytest.fixture
def ask(bench: FeedBench) -> Iterator[Client]:
    bench.put("ann", made("ann", "tea-1", "rope-2", "lamps-3"))
    with bench.role() as role:
        yield Client(role.server.url)


def items(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def until(condition: Any, what: str) -> Any:
    deadline = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return found


# -- lists -----------------------------------------------------------------------------------------------------


def test_a_users_list_is_the_one_on_the_topic(ask: Client) -> None:
    status, headers, answer = ask("/users/ann/recommendations")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert items(answer) == ["tea-1", "rope-2", "lamps-3"]
    assert (answer["personal"], answer["source"]["offset"], answer["layer"]["id"]) == (True, 1, "0.1")
    assert answer["items"][0]["reason"] == {"text": "Because", "because": ["tea-0"], "parts": {"co": 2.0}}


def test_whoever_is_unknown_has_what_everybody_likes(ask: Client) -> None:
    status, _, answer = ask("/users/nobody/recommendations?limit=4")
    assert status == 200
    assert items(answer) == ["tea-0", "tea-1", "tea-2", "tea-3"]
    assert (answer["personal"], answer["source"], answer["layer"]["id"]) == (False, None, "root")
    assert answer["items"][0]["reason"]["text"] == "Popular right now"


def test_limit_exclude_and_category_choose_among_the_list(ask: Client) -> None:
    path = "/users/ann/recommendations"
    assert items(ask(f"{path}?limit=1")[2]) == ["tea-1"]
    assert items(ask(f"{path}?exclude=tea-1,lamps-3")[2]) == ["rope-2"]
    assert items(ask(f"{path}?exclude=tea-1&exclude=rope-2")[2]) == ["lamps-3"]
    assert items(ask(f"{path}?category=rope")[2]) == ["rope-2"]
    assert items(ask("/users/nobody/recommendations?category=lamps&limit=2")[2]) == ["lamps-0", "lamps-1"]


def test_a_list_that_is_at_hand_is_not_sent_again(bench: FeedBench, ask: Client) -> None:
    path = "/users/ann/recommendations"
    etag = ask(path)[1]["etag"]
    assert ask(path, if_none_match=etag)[0] == 304
    assert ask(path, if_none_match=f'"other", W/{etag}')[0] == 304
    assert ask(f"{path}?limit=1", if_none_match=etag)[0] == 200
    bench.put("ann", made("ann", "tea-2", offset=2))
    until(lambda: ask(path, if_none_match=etag)[0] == 200, "the new list")


def test_of_two_lists_the_one_with_the_higher_offset_counts(bench: FeedBench, ask: Client) -> None:
    bench.put("ann", made("ann", "tea-2", offset=9))
    bench.put("ann", made("ann", "tea-3", offset=8))
    bench.put("ben", made("ben", "tea-4", offset=1))
    until(lambda: ask("/users/ben/recommendations")[2]["personal"], "the list of ben")
    assert items(ask("/users/ann/recommendations")[2]) == ["tea-2"]


def test_what_was_withdrawn_expired_or_is_blocked_is_shown_no_more() -> None:
    bench = FeedBench(blocked_categories={"poison"}, blocked_labels={"adult"})
    bench.stock()
    bench.item("arsenic", 1, category="poison")
    bench.item("magazine", 1, safety=("adult",))
    bench.item("rope-1", 1, category="rope", expires_ms=1_999)
    bench.put("ann", made("ann", "tea-1", "arsenic", "magazine", "rope-1", "rope-2", "tea-0"))
    with bench.role() as role:
        ask = Client(role.server.url)
        assert items(ask("/users/ann/recommendations")[2]) == ["tea-1", "rope-2", "tea-0"]
        bench.fed.append(bench.topics.vectors, "tea-0", None)
        until(lambda: items(ask("/users/ann/recommendations")[2]) == ["tea-1", "rope-2"], "the withdrawal")
        assert items(ask("/users/nobody/recommendations?limit=2")[2]) == ["tea-1", "tea-2"]
        near = {item["item_id"] for item in ask("/items/rope-2/similar?limit=100")[2]["items"]}
        assert not near & {"arsenic", "magazine", "rope-1", "tea-0", "rope-2"}


def test_a_deleted_user_is_unknown(bench: FeedBench, ask: Client) -> None:
    bench.put("ann", None)
    until(lambda: not ask("/users/ann/recommendations")[2]["personal"], "the tombstone")


def test_users_are_found_by_their_own_id_where_they_are_stored_under_pseudonyms() -> None:
    bench = FeedBench(key=KEY)
    stored = Pseudonyms(KEY)("ann")
    bench.put(stored, made(stored, "tea-1"))
    with bench.role() as role:
        ask = Client(role.server.url)
        assert ask("/users/ann/recommendations")[2]["personal"]
        assert not ask(f"/users/{stored}/recommendations")[2]["personal"]
        stream = ask.stream("/users/ann/stream")
        assert items(stream.list()) == ["tea-1"]
        stream.close()


def test_layers_and_similar_items(ask: Client) -> None:
    status, _, answer = ask("/layers")
    assert (status, [layer["id"] for layer in answer["layers"]]) == (200, ["root"])
    assert {name: answer["layers"][0][name] for name in ("since_ms", "joined", "left")} == {
        "since_ms": 1_000, "joined": 0.25, "left": None,
    }  # fmt: skip
    status, _, answer = ask("/items/rope-0/similar?limit=3")
    assert status == 200
    assert len(answer["items"]) == 3
    assert {item["item_id"].split("-")[0] for item in answer["items"]} == {"rope"}
    assert "rope-0" not in {item["item_id"] for item in answer["items"]}
    assert ask("/items/unheard-of/similar")[0] == 404


# -- streams ---------------------------------------------------------------------------------------------------


def test_a_new_list_is_pushed_the_moment_it_is_on_the_topic(bench: FeedBench, ask: Client) -> None:
    stream = ask.stream("/users/ann/stream")
    assert stream.answer.headers["content-type"].startswith("text/event-stream")
    assert items(stream.list()) == ["tea-1", "rope-2", "lamps-3"]
    began = time.monotonic()
    bench.put("ann", made("ann", "tea-5", offset=2))
    bench.put("ben", made("ben", "rope-5", offset=3))
    assert items(stream.list()) == ["tea-5"]
    assert time.monotonic() - began < 1
    bench.put("ann", None)
    assert stream.list()["personal"] is False
    stream.close()
    until(lambda: len(bench.hub) == 0, "the hub forgets the page")


def test_a_page_that_comes_back_gets_only_what_it_has_not(bench: FeedBench, ask: Client) -> None:
    stream = ask.stream("/users/ann/stream")
    last = stream.list()["id"]
    stream.close()
    stream = ask.stream("/users/ann/stream", last_event_id=last)
    bench.put("ann", made("ann", "tea-4", offset=2))
    news = stream.list()
    assert items(news) == ["tea-4"], "the list that it had already came again"
    stream.close()
    stream = ask.stream("/users/ann/stream", last_event_id=last)
    assert stream.list()["id"] == news["id"]
    stream.close()


def test_a_stream_says_that_it_is_still_there() -> None:
    bench = FeedBench(_with(heartbeat_s=0.05))
    with bench.role() as role:
        stream = Client(role.server.url).stream("/users/ann/stream")
        stream.list()
        assert stream.next() == {"": "still here"}
        stream.close()


def test_a_page_that_takes_nothing_holds_a_bounded_number_of_lists_and_gets_the_newest() -> None:
    bench = FeedBench(_with(buffer=2))
    with bench.role() as role:
        subscription = bench.hub.subscribe("user/ann")
        for offset in range(1, 8):
            bench.put("ann", made("ann", f"tea-{offset}", offset=offset))
        until(lambda: bench.metrics.feed_pushed._value.get() == 7, "all are pushed")
        assert (len(subscription._waiting), subscription.dropped) == (2, 5)
        assert b"tea-7" in (subscription._waiting[-1].value or b"")  # type: ignore[attr-defined]
        assert role.dead() is None


def test_there_are_only_so_many_streams() -> None:
    bench = FeedBench(_with(streams=2, streams_per_client=5))
    with bench.role() as role:
        ask = Client(role.server.url)
        open_ones = [ask.stream(f"/users/{n}/stream") for n in range(2)]
        for stream in open_ones:
            stream.list()
        status, headers, answer = ask("/users/x/stream")
        assert (status, headers["content-type"]) == (503, "application/problem+json")
        assert headers["retry-after"] == "10"
        open_ones[0].close()
        until(lambda: len(bench.hub) == 1, "one has gone")
        ask.stream("/users/x/stream").close()
        assert "too many streams" in answer["detail"]
        open_ones[1].close()


def test_a_stop_lets_open_streams_go(bench: FeedBench) -> None:
    with bench.role() as role:
        stream = Client(role.server.url).stream("/users/ann/stream")
        stream.list()
        began = time.monotonic()
    assert time.monotonic() - began < 3
    assert not stream.answer.read(), "an end, not a cut"
    stream.close()


# -- what comes in ---------------------------------------------------------------------------------------------

CLICK = {"user_id": "ann", "item_id": "tea-1", "ts": 1_700_000_000_000}


def test_a_click_goes_to_the_topic_once_it_is_checked(bench: FeedBench, ask: Client) -> None:
    data = json.dumps(CLICK | {"event": "view"}).encode()
    status, _, answer = ask("/clicks", "POST", data, content_type="application/json")
    assert status == 202
    (message,) = bench.sent
    assert (message.topic, message.key) == ("clicks", b"ann")
    assert json.loads(message.value or b"") == CLICK | {"event": "view", "event_id": answer["event_id"], "value": None}
    event = {"specversion": "1.0", "id": "7", "source": "shop", "type": "view", "data": CLICK}
    data = json.dumps(event).encode()
    assert ask("/clicks", "POST", data, content_type="application/cloudevents+json")[0] == 202
    assert json.loads(bench.sent[1].value or b"")["event_id"] == "shop/7"


@pytest.mark.parametrize(
    ("data", "kind", "status", "told"),
    [
        (b"{", "application/json", 400, "value"),
        (b'{"user_id": "ann", "item_id": "a"}', "application/json", 400, "ts: missing"),
        (json.dumps(CLICK | {"user_id": "a\n"}).encode(), "application/json", 400, "user_id: holds control"),
        (json.dumps(CLICK).encode(), "text/plain", 415, "application/json"),
        (b" " * 300_000, "application/json", 413, "262144"),
    ],
)
def test_a_click_that_is_none_is_refused_with_the_reason(
    bench: FeedBench, ask: Client, data: bytes, kind: str, status: int, told: str
) -> None:
    got, headers, answer = ask("/clicks", "POST", data, content_type=kind)
    assert (got, headers["content-type"]) == (status, "application/problem+json")
    assert told in answer["detail"]
    assert answer["status"] == status
    assert not bench.sent


def test_clicks_of_one_address_are_limited() -> None:
    bench = FeedBench(_with(clicks_per_second=1))
    with bench.role() as role:
        ask = Client(role.server.url)
        data = json.dumps(CLICK).encode()
        statuses = [ask("/clicks", "POST", data, content_type="application/json")[0] for _ in range(5)]
        assert statuses[:2] == [202, 202]
        assert 429 in statuses
        assert len(bench.sent) == statuses.count(202)


IMPRESSION = {"user_id": "ann", "items": ["tea-1", "rope-2"], "ts": 1_700_000_000_000}


def test_an_impression_goes_to_its_topic_once_it_is_checked(bench: FeedBench, ask: Client) -> None:
    data = json.dumps(IMPRESSION).encode()
    status, _, answer = ask("/impressions", "POST", data, content_type="application/json")
    assert status == 202
    (message,) = bench.sent
    assert (message.topic, message.key) == ("impressions", b"ann")
    assert json.loads(message.value or b"") == IMPRESSION | {"event_id": answer["event_id"]}
    event = {"specversion": "1.0", "id": "7", "source": "shop", "type": "shown", "data": IMPRESSION}
    data = json.dumps(event).encode()
    assert ask("/impressions", "POST", data, content_type="application/cloudevents+json")[2]["event_id"] == "shop/7"
    bench.refuse = PublishFailed("no answer", retriable=True)
    assert ask("/impressions", "POST", data, content_type="application/json")[0] == 400
    data = json.dumps(IMPRESSION).encode()
    assert ask("/impressions", "POST", data, content_type="application/json")[0] == 503


@pytest.mark.parametrize(
    ("data", "kind", "status", "told"),
    [
        (b"{", "application/json", 400, "value"),
        (json.dumps(IMPRESSION | {"items": []}).encode(), "application/json", 400, "items"),
        (json.dumps(IMPRESSION | {"items": ["x"] * 101}).encode(), "application/json", 400, "STRATA_IMPRESSION_ITEMS"),
        (json.dumps(IMPRESSION).encode(), "text/plain", 415, "application/json"),
        (b" " * 300_000, "application/json", 413, "262144"),
    ],
)
def test_an_impression_that_is_none_is_refused_with_the_reason(
    bench: FeedBench, ask: Client, data: bytes, kind: str, status: int, told: str
) -> None:
    got, headers, answer = ask("/impressions", "POST", data, content_type=kind)
    assert (got, headers["content-type"]) == (status, "application/problem+json")
    assert told in answer["detail"]
    assert not bench.sent


def test_impressions_of_one_address_are_limited_and_take_no_room_from_its_clicks() -> None:
    bench = FeedBench(_with(clicks_per_second=1))
    with bench.role() as role:
        ask = Client(role.server.url)
        data = json.dumps(IMPRESSION).encode()
        statuses = [ask("/impressions", "POST", data, content_type="application/json")[0] for _ in range(5)]
        assert statuses[:2] == [202, 202]
        assert 429 in statuses
        assert ask("/clicks", "POST", json.dumps(CLICK).encode(), content_type="application/json")[0] == 202


def test_what_kafka_does_not_acknowledge_is_not_accepted(bench: FeedBench, ask: Client) -> None:
    bench.refuse = PublishFailed("no answer", retriable=True)
    status, headers, _ = ask("/clicks", "POST", json.dumps(CLICK).encode(), content_type="application/json")
    assert (status, headers["retry-after"]) == (503, "2")


def test_an_erasure_needs_the_token(bench: FeedBench, ask: Client) -> None:
    assert ask("/users/ann", "DELETE")[0] == 401
    status, headers, _ = ask("/users/ann", "DELETE", authorization="Bearer a token of sixteeM")
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert not bench.sent
    status, _, answer = ask("/users/ann", "DELETE", authorization=f"Bearer {LOCAL.token}")
    assert status == 202
    (message,) = bench.sent
    assert (message.topic, message.key) == ("erasures", b"ann")
    assert json.loads(message.value or b"") == {"request_id": answer["request_id"], "ts": 2_000}


def test_what_is_not_switched_on_is_refused_with_the_setting() -> None:
    bench = FeedBench(FeedConfig())
    with bench.role() as role:
        ask = Client(role.server.url)
        for path, sent in (("/clicks", CLICK), ("/impressions", IMPRESSION)):
            status, _, answer = ask(path, "POST", json.dumps(sent).encode(), content_type="application/json")
            assert (status, "STRATA_FEED_CLICKS" in answer["detail"]) == (403, True)
        status, _, answer = ask("/users/ann", "DELETE", authorization="Bearer x")
        assert (status, "STRATA_HTTP_TOKEN" in answer["detail"]) == (403, True)
        assert not bench.sent


# -- who may ask -----------------------------------------------------------------------------------------------


def test_errors_are_problem_details(ask: Client) -> None:
    for path, method, status in (
        ("/nowhere", "GET", 404), ("/layers", "POST", 405), ("/users/ann/recommendations?limit=0", "GET", 400),
        ("/users/ann/recommendations?limit=1e3", "GET", 400), ("/users/%0a/recommendations", "GET", 400),
        (f"/users/{'x' * 257}/recommendations", "GET", 400), ("/users/ann/stream?limit=999", "GET", 400),
        ("/items/%00/similar", "GET", 400),
    ):  # fmt: skip
        got, headers, answer = ask(path, method)
        assert (got, headers["content-type"]) == (status, "application/problem+json"), path
        assert answer["status"] == status
        assert answer["title"]
        assert answer["detail"]


def test_a_page_elsewhere_whose_name_points_here_is_refused(ask: Client) -> None:
    assert ask("/layers", host="evil.example")[0] == 421
    assert ask("/layers", host="localhost:8080")[0] == 200


def test_scripts_of_other_pages_may_ask_where_they_are_named() -> None:
    bench = FeedBench(_with(origins=frozenset({"https://shop.example"})))
    with bench.role() as role:
        ask = Client(role.server.url)
        assert ask("/layers", origin="https://shop.example")[1]["access-control-allow-origin"] == "https://shop.example"
        assert "access-control-allow-origin" not in ask("/layers", origin="https://evil.example")[1]


def test_requests_of_one_address_are_limited() -> None:
    bench = FeedBench(_with(requests_per_second=2))
    with bench.role() as role:
        ask = Client(role.server.url)
        statuses = [ask("/layers")[0] for _ in range(6)]
        assert statuses[:4] == [200] * 4
        assert 429 in statuses


def test_metrics_count_requests_and_hold_no_ids(bench: FeedBench, ask: Client) -> None:
    ask("/users/ann/recommendations")
    ask("/users/ann/recommendations?limit=0")
    value = bench.metrics.registry.get_sample_value
    assert value("strata_feed_requests_total", {"route": "list", "status": "2xx"}) == 1
    assert value("strata_feed_requests_total", {"route": "list", "status": "4xx"}) == 1


def test_only_a_clicks_first_list_says_how_fresh_lists_are(bench: FeedBench) -> None:
    bench.put("old", made("old", "tea-1", offset=1))
    with bench.role():
        count = bench.metrics.registry.get_sample_value

        def known() -> tuple[float | None, float | None]:
            return count("strata_feed_delay_seconds_count"), count("strata_feed_freshness_seconds_count")

        assert known() == (0, 0), "what was there before the start is no news"
        bench.put("ann", made("ann", "tea-1", offset=2))
        bench.put("ann", made("ann", "tea-2", offset=2))  # now BERT has read it, too
        bench.put("old", made("old", "tea-2", offset=1))  # an item was withdrawn
        bench.put("ann", made("ann", "tea-3", offset=3))
        until(lambda: known()[0] == 4, "all four are read")
        assert known() == (4, 2)
        assert count("strata_feed_freshness_seconds_sum") == pytest.approx(2 * (2.0 - 0.9))


def test_who_is_forgotten_is_not_taken_for_somebody_new() -> None:
    lists = FirstLists(users=2)
    of = {name: Source("clicks", 0, offset) for name, offset in (("ann", 7), ("bob", 3), ("cid", 5))}
    assert [lists.first(name, source) for name, source in of.items()] == [True, True, True]  # ann is forgotten
    assert not lists.first("ann", of["ann"])
    assert not lists.first("dan", Source("clicks", 0, 6)), "perhaps it came before"
    assert lists.first("eve", Source("clicks", 1, 6)), "of another partition nobody is forgotten"
    assert lists.first("ann", Source("clicks", 0, 8))
    assert not lists.first("ann", Source("clicks", 0, 2)), "one that comes late does not set her back"
    assert not lists.first("ann", Source("clicks", 0, 8))


def test_an_id_of_the_greatest_length_is_taken(ask: Client) -> None:
    assert ask(f"/users/{'x' * limits().id_length}/recommendations")[0] == 200


def _with(**given: Any) -> FeedConfig:
    from dataclasses import replace

    return replace(LOCAL, **given)
