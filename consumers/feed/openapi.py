"""The description of the feed as OpenAPI 3.1, from the structs of the code."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from consumers.feed.answers import Accepted, Layers, Ordered, Similar
from consumers.feed.config import FeedConfig
from consumers.feed.problems import MEDIA_TYPE, ProblemDetails
from consumers.feed.serving import Feed

_STRUCTS: Final[tuple[type[Struct], ...]] = (Feed, Layers, Similar, Accepted, Ordered, ProblemDetails)
_ID: Final = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f\s][^\u0000-\u001f\u007f-\u009f]*$"
"""No control characters, and not blank."""
_DESCRIBED: Final = {
    400: "Something in the request is wrong; `detail` names it",
    401: "The token is missing or wrong",
    403: "Not offered here; `detail` names the setting",
    404: "No such item",
    413: "The body is too long",
    415: "Not a kind of body that is taken",
    421: "Asked by a name that is not this machine's",
    422: "Kafka does not take it",
    429: "More than allowed; `Retry-After` says how long to wait",
    503: "Not now; `Retry-After` says when",
}


def document(config: FeedConfig) -> dict[str, Any]:
    """The OpenAPI document of a feed with these limits."""
    schemas, components = msgspec.json.schema_components(_STRUCTS, ref_template="#/components/schemas/{name}")
    of = dict(zip(_STRUCTS, schemas, strict=True))
    limits = config.limits
    identifier = {"type": "string", "minLength": 1, "maxLength": limits.id_length, "pattern": _ID}
    when = {"type": "integer", "minimum": 0, "maximum": 253_402_300_799_999, "description": "ms since the epoch"}
    event_id = {"type": ["string", "null"], "minLength": 1, "maxLength": limits.id_length}
    click = {
        "type": "object",
        "required": ["user_id", "item_id", "ts"],
        "properties": {
            "user_id": identifier,
            "item_id": identifier,
            "ts": when,
            "event": {"type": "string", "minLength": 1, "maxLength": limits.event_length, "default": "click"},
            "event_id": event_id,
            "value": {"type": ["number", "null"]},
        },
    }
    impression = {
        "type": "object",
        "required": ["user_id", "items", "ts"],
        "properties": {
            "user_id": identifier,
            "items": {
                "type": "array",
                "items": identifier,
                "minItems": 1,
                "maxItems": limits.impression_items,
                "description": "What the page shows, in its order",
            },
            "ts": when,
            "event_id": event_id,
        },
    }
    user = {"name": "user_id", "in": "path", "required": True, "schema": identifier}
    limit = _parameter("limit", {"type": "integer", "minimum": 1, "maximum": config.longest_list, "default": 10})
    which = [
        limit,
        _parameter("exclude", {"type": "array", "items": {"type": "string"}, "maxItems": config.excluded},
                   "Items that are left out"),
        _parameter("category", {"type": "string", "maxLength": limits.label_length}, "Only items of this category"),
    ]  # fmt: skip

    def answer(text: str, kind: type[Struct], **headers: str) -> dict[str, Any]:
        described = {name: {"description": told, "schema": {"type": "string"}} for name, told in headers.items()}
        return {"description": text, "headers": described, "content": {"application/json": {"schema": of[kind]}}}

    def event(data: dict[str, Any]) -> dict[str, Any]:
        word = {"type": "string", "minLength": 1, "maxLength": 500}
        envelope = {
            "type": "object",
            "required": ["specversion", "id", "source", "type", "data"],
            "properties": {"specversion": word, "id": word, "source": word, "type": word, "data": data},
            "additionalProperties": False,
        }
        content = {"application/json": {"schema": data}, "application/cloudevents+json": {"schema": envelope}}
        return {
            "requestBody": {"required": True, "content": content},
            "responses": {
                "202": answer("Acknowledged by Kafka", Accepted),
                **errors(400, 403, 413, 415, 422, 503),
            },
        }

    def errors(*statuses: int) -> dict[str, Any]:
        content = {MEDIA_TYPE: {"schema": of[ProblemDetails]}}
        return {str(s): {"description": _DESCRIBED[s], "content": content} for s in (*statuses, 421, 429)}

    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Strata: the feed",
            "version": "1",
            "description": "Users' lists as they are on the topic `recommendations`, without what may not be shown any"
            " more; pushed the moment that they change. Errors are problem details (RFC 9457).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/users/{user_id}/recommendations": {
                "get": {
                    "operationId": "recommendations",
                    "summary": "A user's newest list; everybody's where nothing is known of the user",
                    "parameters": [user, *which, _header("If-None-Match", "The ETag of a list that is at hand")],
                    "responses": {
                        "200": answer("The list", Feed, ETag="Names exactly this list"),
                        "304": {"description": "The list at hand is the newest"},
                        **errors(400, 503),
                    },
                }
            },
            "/users/{user_id}/stream": {
                "get": {
                    "operationId": "stream",
                    "summary": "The list, and each newer one as it comes (server-sent events named `list`)",
                    "parameters": [user, *which, _header("Last-Event-ID", "The list that is at hand")],
                    "responses": {
                        "200": {
                            "description": "Events; `data` is a Feed. A comment comes when there is nothing to say",
                            "content": {"text/event-stream": {"schema": {"type": "string"}}},
                        },
                        **errors(400, 503),
                    },
                }
            },
            "/users/{user_id}": {
                "delete": {
                    "operationId": "erase",
                    "summary": "Erase all that a user did up to now",
                    "parameters": [user],
                    "security": [{"token": []}],
                    "responses": {
                        "202": answer("Ordered; the receipt is logged under this id", Ordered),
                        **errors(400, 401, 403, 422, 503),
                    },
                }
            },
            "/clicks": {
                "post": {
                    "operationId": "click",
                    "summary": "A click, as it would be on the topic, or as a CloudEvent",
                    **event(click),
                }
            },
            "/impressions": {
                "post": {
                    "operationId": "impression",
                    "summary": "What a page has shown to a user, as it would be on the topic, or as a CloudEvent",
                    **event(impression),
                }
            },
            "/layers": {
                "get": {
                    "operationId": "layers",
                    "summary": "The interest layers",
                    "responses": {"200": answer("All of them", Layers), **errors()},
                }
            },
            "/items/{item_id}/similar": {
                "get": {
                    "operationId": "similar",
                    "summary": "Items whose text is near to an item's",
                    "parameters": [{**user, "name": "item_id"}, limit],
                    "responses": {"200": answer("The nearest first", Similar), **errors(400, 404)},
                }
            },
        },
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "STRATA_HTTP_TOKEN"}},
        },
    }


def _parameter(name: str, schema: dict[str, Any], text: str = "") -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
