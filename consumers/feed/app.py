"""The routes."""

from __future__ import annotations

import hmac
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from consumers.feed.answers import Accepted, Layer, Layers, Ordered, Similar, SimilarItem
from consumers.feed.config import FeedConfig
from consumers.feed.hub import ENDED, Hub
from consumers.feed.ingest import Ingest
from consumers.feed.openapi import document
from consumers.feed.problems import Problem, on_error, on_fault, on_http, on_problem
from consumers.feed.rates import Rate
from consumers.feed.requests import body, identifier, number, wanted
from consumers.feed.serving import Serving, Wanted, tag
from consumers.feed.shelf import Shelf
from consumers.feed.store import ListStore, Update
from consumers.feed.streams import HEARTBEAT, RETRY, EventStream, event
from consumers.metrics import Metrics
from models.errors import InvalidEvent, StrataError
from models.events import Click, Headers, Limits, decode_click
from models.impressions import Impression, decode_impression
from models.pseudonyms import Pseudonyms
from producers.erasures import erasure_message
from producers.publisher import Message
from producers.replay import click_message, impression_message
from producers.topics import Topics

Handler = Callable[[Request], Awaitable[Any]]

JSON: Final = "application/json"
_CLOUD_EVENT: Final = "application/cloudevents+json"
_Event = TypeVar("_Event", Click, Impression)


class FeedApp:
    """What the routes need, and the routes.

    Parameters
    ----------
    pages
        More to GET: path, name in the metrics, handler.
    wall
        The time, s since the epoch.
    """

    def __init__(
        self,
        store: ListStore,
        shelf: Shelf,
        hub: Hub,
        ingest: Ingest,
        topics: Topics,
        metrics: Metrics,
        pseudonyms: Pseudonyms,
        config: FeedConfig = FeedConfig(),
        *,
        pages: Sequence[tuple[str, str, Handler]] = (),
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._shelf = shelf
        self._hub = hub
        self._ingest = ingest
        self._topics = topics
        self._metrics = metrics
        self._pseudonyms = pseudonyms
        self._config = config
        self._wall = wall
        self._serving = Serving(shelf, wall)
        self._requests = Rate(config.requests_per_second)
        self._clicks = Rate(config.clicks_per_second)
        self._impressions = Rate(config.clicks_per_second)
        self._streams: dict[str, int] = {}
        self._openapi = msgspec.json.encode(document(config))
        get = ["GET"]
        routes: list[BaseRoute] = [
            Route("/users/{user_id}/recommendations", self._counted("list", self._list), methods=get),
            Route("/users/{user_id}/stream", self._counted("stream", self._stream), methods=get),
            Route("/users/{user_id}", self._counted("erase", self._erase), methods=["DELETE"]),
            Route("/clicks", self._counted("click", self._click), methods=["POST"]),
            Route("/impressions", self._counted("impression", self._impression), methods=["POST"]),
            Route("/layers", self._counted("layers", self._layers), methods=get),
            Route("/items/{item_id}/similar", self._counted("similar", self._similar), methods=get),
            Route("/openapi.json", self._counted("openapi", self._description), methods=get),
            *(Route(path, self._counted(name, handle), methods=get) for path, name, handle in pages),
        ]
        middleware = []
        if config.origins:
            middleware.append(
                Middleware(
                    CORSMiddleware,
                    allow_origins=sorted(config.origins),
                    allow_methods=["GET", "POST"],
                    allow_headers=["content-type", "if-none-match", "last-event-id"],
                    expose_headers=["etag"],
                )
            )
        self.asgi = Starlette(
            routes=routes,
            middleware=middleware,
            exception_handlers={
                Problem: on_problem,
                HTTPException: on_http,
                StrataError: on_fault,
                Exception: on_error,
            },
            lifespan=self._lifespan,
        )
        self.asgi.router.redirect_slashes = False

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._hub.open()
        yield
        await self._ingest.close()
        await self._store.close()

    def _counted(self, route: str, handle: Handler) -> Handler:
        """What every request meets: the check of its host, the rate of its client, the metrics."""
        seconds = self._metrics.feed_seconds.labels(route)

        async def counted(request: Request) -> Any:
            began = time.perf_counter()
            status = 500
            try:
                self._admit(request)
                answer = await handle(request)
                status = getattr(answer, "status_code", 200)
            except Problem as problem:
                status = int(problem.status)
                raise
            finally:
                seconds.observe(time.perf_counter() - began)
                self._metrics.feed_requests.labels(route, f"{status // 100}xx").inc()
            return answer

        return counted

    def _admit(self, request: Request) -> None:
        if self._config.loopback and (request.url.hostname or "") not in ("localhost", "127.0.0.1", "::1"):
            raise Problem(HTTPStatus.MISDIRECTED_REQUEST, "this address is for this machine: ask localhost")
        if wait := self._requests.take(_client(request)):
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, "more requests than allowed", Retry_After=f"{wait:.0f}")

    # -- lists --------------------------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        user_id = self._pseudonyms(identifier(request, "user_id", self._config.limits))
        answer = self._serving.answer(user_id, await self._store.get(user_id), wanted(request, self._config))
        etag = f'"{tag(answer)}"'
        headers = {"etag": etag, "cache-control": "private, no-cache"}
        known = request.headers.get("if-none-match", "")
        if known.strip() == "*" or etag in [part.strip().removeprefix("W/") for part in known.split(",")]:
            return Response(status_code=304, headers=headers)
        return Response(answer, media_type=JSON, headers=headers)

    async def _stream(self, request: Request) -> EventStream:
        user_id = self._pseudonyms(identifier(request, "user_id", self._config.limits))
        which, client = wanted(request, self._config), _client(request)
        if self._hub.full or self._streams.get(client, 0) >= self._config.streams_per_client:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many streams are open", Retry_After="10")
        last = request.headers.get("last-event-id", "")
        return EventStream(self._lists(user_id, which, client, last), self._config.stalled_s)

    async def _lists(self, user_id: str, which: Wanted, client: str, last: str) -> AsyncIterator[bytes]:
        """The list as it is, unless the page has it already; then each newer one."""
        self._streams[client] = self._streams.get(client, 0) + 1
        subscription = self._hub.subscribe(f"user/{user_id}")  # before the look: nothing falls between the two
        try:
            yield RETRY
            body = self._serving.answer(user_id, await self._store.get(user_id), which)
            if (name := tag(body)) != last:
                last = name
                yield event("list", body, name)
            while True:
                news = await subscription.next(self._config.heartbeat_s)
                if news is ENDED:
                    return
                if isinstance(news, Update):
                    body = self._serving.answer(user_id, news.value, which)
                    if (name := tag(body)) != last:
                        last = name
                        yield event("list", body, name)
                else:
                    yield HEARTBEAT
        finally:
            self._hub.unsubscribe(subscription)
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]

    # -- what comes in ------------------------------------------------------------------------------------------

    async def _click(self, request: Request) -> Response:
        return await self._take(request, "click", self._clicks, decode_click, click_message)

    async def _impression(self, request: Request) -> Response:
        return await self._take(request, "impression", self._impressions, decode_impression, impression_message)

    async def _take(
        self,
        request: Request,
        what: str,
        rate: Rate,
        decode: Callable[[bytes, Headers, Limits], _Event],
        message: Callable[[_Event, Topics], Message],
    ) -> Response:
        """An event, checked as its reader will check it; answered once Kafka has it."""
        if not self._config.clicks:
            raise Problem(HTTPStatus.FORBIDDEN, f"{what}s are not taken over HTTP here (STRATA_FEED_CLICKS)")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (JSON, _CLOUD_EVENT):  # a form of another site could send anything else without being asked
            raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the {what}: {JSON} or {_CLOUD_EVENT}")
        if wait := rate.take(_client(request)):
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, f"more {what}s than allowed", Retry_After=f"{wait:.0f}")
        data = await body(request, self._config.limits.payload_bytes)
        headers = [("content-type", kind.encode())]
        headers += [(f"ce_{k[3:]}", v.encode()) for k, v in request.headers.items() if k.startswith("ce-")]
        try:
            taken = decode(data, headers, self._config.limits)
        except InvalidEvent as error:
            raise Problem(HTTPStatus.BAD_REQUEST, str(error)) from None
        if taken.event_id is None:
            taken = msgspec.structs.replace(taken, event_id=str(uuid.uuid4()))
        await self._ingest.put(message(taken, self._topics))
        return Response(msgspec.json.encode(Accepted(taken.event_id or "")), 202, media_type=JSON)

    async def _erase(self, request: Request) -> Response:
        if self._config.token is None:
            raise Problem(HTTPStatus.FORBIDDEN, "nothing is erased over HTTP here (STRATA_HTTP_TOKEN)")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self._config.token.encode()):
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "an erasure needs Authorization: Bearer …",
                WWW_Authenticate="Bearer",
            )
        user_id = identifier(request, "user_id", self._config.limits)
        request_id = str(uuid.uuid4())
        await self._ingest.put(erasure_message(user_id, request_id, int(self._wall() * 1000), self._topics))
        return Response(msgspec.json.encode(Ordered(request_id)), 202, media_type=JSON)

    # -- what is known ------------------------------------------------------------------------------------------

    async def _layers(self, request: Request) -> Response:
        tree, infos = self._shelf.tree, self._shelf.layers
        layers = sorted(infos.values(), key=lambda i: [] if i.id == "root" else [int(n) for n in i.id.split(".")])
        found = Layers(
            tree.version if tree else 0,
            tuple(Layer(i.id, i.label, i.size, i.items[:20], i.titles, i.since_ms, i.joined, i.left) for i in layers),
        )
        return Response(msgspec.json.encode(found), media_type=JSON)

    async def _similar(self, request: Request) -> Response:
        item_id = identifier(request, "item_id", self._config.limits)
        limit = number(request, "limit", 10, self._config.longest_list)
        found = await run_in_threadpool(self._shelf.similar, item_id, limit)
        if found is None:
            raise Problem(HTTPStatus.NOT_FOUND, "no such item, or it is not encoded yet")
        items = []
        for other, cosine in found:
            facts = self._shelf.facts(other)
            items.append(SimilarItem(other, facts.title if facts else other, round(cosine, 4)))
        return Response(msgspec.json.encode(Similar(item_id, tuple(items))), media_type=JSON)

    async def _description(self, request: Request) -> Response:
        return Response(self._openapi, media_type=JSON)


def _client(request: Request) -> str:
    return request.client.host if request.client else ""
