"""The topics as an AsyncAPI 3 document, and JSON Schemas of what users write and read, from the structs of the code.

``python -m ops.asyncapi`` writes ``ops/asyncapi.yaml`` and ``ops/schemas/``; a test says when they are out of date.
Payloads in msgpack are described by the JSON Schema of their struct: an array of fields in order where the struct is
``array_like``, and bytes (msgpack ``bin``) where the schema says base64.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from inspect import cleandoc
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from models.erasures import ErasureIn
from models.errors import ConfigurationError
from models.events import ClickIn, Item
from models.impressions import ImpressionIn
from models.ranker_records import RankerUpdate, RankerWeights
from models.records import (
    Checkpoint,
    ItemVector,
    LayerInfo,
    LayerTree,
    NeighbourRow,
    ProfileRecord,
    Recommendation,
)
from models.sequence_records import SequenceHead, SequencePart
from producers.topics import Spec, Topics

JSON: Final = "application/json"
MSGPACK: Final = "application/vnd.msgpack"
FOLDER: Final = Path(__file__).parent
_TEMPLATE: Final = "#/components/schemas/{name}"


class Content(Struct, frozen=True):
    """One kind of message on a topic."""

    name: str
    key: str
    """What the record's key is."""
    struct: type[Struct] | None
    """None: the bytes of another topic's message, as they were."""
    format: str
    summary: str


class Described(Struct, frozen=True):
    """What the code does not say about a topic: who writes it, who reads it, and what for."""

    title: str
    written_by: tuple[str, ...]
    """Roles; empty: the user's systems."""
    read_by: tuple[str, ...]
    contents: tuple[Content, ...]


TOPICS: Final[dict[str, Described]] = {
    "items": Described(
        "The catalogue, as the user's systems describe it; a null value withdraws the item",
        (), ("catalogue",),
        (Content("item", "item_id", Item, JSON, "An item, plain or as the data of a CloudEvent"),),
    ),
    "clicks": Described(
        "What users do",
        ("feed",), ("updater",),
        (Content("click", "user_id", ClickIn, JSON, "An event of a user, plain or as the data of a CloudEvent"),),
    ),
    "impressions": Described(
        "What pages have shown to users; best effort: read from the side, by who reads the user's clicks",
        ("feed",), ("updater",),
        (Content("impression", "user_id", ImpressionIn, JSON, "Items shown, plain or as the data of a CloudEvent"),),
    ),
    "vectors": Described(
        "The encoded catalogue",
        ("catalogue",), ("updater", "layers", "sequence", "feed"),
        (Content("itemVector", "item_id", ItemVector, MSGPACK, "An item with its vector; null: withdrawn"),),
    ),
    "profiles": Described(
        "The state of each user, in the partition of his clicks",
        ("updater",), ("updater", "neighbours", "layers", "sequence", "feed"),
        (Content("profile", "user_id", ProfileRecord, MSGPACK, "A user's history, vector, layer and applied offset"),),
    ),
    "layers": Described(
        "The interest layers",
        ("layers",), ("layers", "updater", "feed"),
        (
            Content("layerTree", "`tree`", LayerTree, MSGPACK, "Basis and centres"),
            Content("layer", "`layer/` and the layer's id", LayerInfo, MSGPACK, "Label, size and top items of a layer"),
            Content("layersState", "`state`", Checkpoint, MSGPACK, "The learner's state with the offsets in it"),
        ),
    ),
    "neighbours": Described(
        "Items that are clicked by the same users",
        ("neighbours",), ("neighbours", "updater"),
        (Content("neighbours", "item_id", NeighbourRow, MSGPACK, "An item's co-clicked items"),),
    ),
    "ranker": Described(
        "The weights that lists are made with",
        ("ranker",), ("ranker", "neighbours", "updater"),
        (
            Content("rankerWeights", "`weights`", RankerWeights, MSGPACK, "Weights, and who serves with what hits"),
            Content("rankerState", "`state`", Checkpoint, MSGPACK, "The learner's state with the offsets in it"),
        ),
    ),
    "ranker_updates": Described(
        "What the clicks of the updaters' batches teach the ranker: sums, nothing of any user",
        ("updater",), ("ranker",),
        (Content("lesson", "`lesson`", RankerUpdate, MSGPACK, "Sums of gradients and hits"),),
    ),
    "sequence": Described(
        "The deep part's net, a snapshot of a few parts and a head every few seconds",
        ("sequence",), ("sequence", "updater"),
        (
            Content("sequencePart", "`part/` and its number", SequencePart, MSGPACK, "A piece of a net in safetensors"),
            Content("sequenceHead", "`head`", SequenceHead, MSGPACK, "What the parts are, and the offsets in them"),
        ),
    ),
    "recommendations": Described(
        "The refreshed lists: of two for a user the one with the higher source.offset is the newer",
        ("updater",), ("feed",),
        (Content("recommendation", "user_id", Recommendation, JSON, "A user's list, with the reason for every item"),),
    ),
    "erasures": Described(
        "Users who want to be forgotten",
        ("feed",), ("updater", "erasure"),
        (Content("erasure", "user_id", ErasureIn, JSON, "An order to erase a user"),),
    ),
    "dead_letters": Described(
        "What could not be used, byte for byte, with the reason in its headers",
        ("catalogue", "updater", "neighbours", "layers", "ranker", "sequence", "erasure"), ("erasure",),
        (Content("deadLetter", "the original key", None, "application/octet-stream", "A message as it was"),),
    ),
}  # fmt: skip
"""By the field of :class:`~producers.topics.Topics`, in the order of its specs."""

PUBLIC: Final[dict[str, type[Struct]]] = {
    "item": Item,
    "click": ClickIn,
    "impression": ImpressionIn,
    "recommendation": Recommendation,
    "erasure": ErasureIn,
}
"""What users write and read: a JSON Schema each."""

_HEADERS: Final = {
    "type": "object",
    "description": "The message's own headers come first. kafka_dlt-* are encoded as Spring Kafka encodes them.",
    "properties": {
        "strata-error-stage": {"type": "string", "enum": ["decode", "validate", "apply", "publish"]},
        "strata-error-class": {"type": "string"},
        "strata-error-message": {"type": "string", "maxLength": 500},
        "kafka_dlt-original-topic": {"type": "string"},
        "kafka_dlt-original-partition": {"type": "string", "description": "4 bytes, big-endian"},
        "kafka_dlt-original-offset": {"type": "string", "description": "8 bytes, big-endian"},
        "kafka_dlt-original-timestamp": {"type": "string", "description": "8 bytes, big-endian, ms since the epoch"},
    },
}


def document() -> dict[str, Any]:
    """The AsyncAPI document.

    Raises
    ------
    ConfigurationError
        If a topic is not described in :data:`TOPICS`.
    """
    contents = [content for described in TOPICS.values() for content in described.contents]
    structs = {content.name: content.struct for content in contents if content.struct is not None}
    schemas, components = msgspec.json.schema_components(list(structs.values()), ref_template=_TEMPLATE)
    payloads = dict(zip(structs, schemas, strict=True))
    topics = Topics()
    fields = {getattr(topics, field): field for field in Topics.__dataclass_fields__}
    channels, operations = {}, {}
    for spec in topics.specs():
        field = fields[spec.name]
        if field not in TOPICS:
            raise ConfigurationError(f"topic {spec.name} is not described: add it to TOPICS in ops/asyncapi.py")
        described = TOPICS[field]
        channels[field] = _channel(spec, described)
        for verb, action, roles in (("writes", "send", described.written_by), ("reads", "receive", described.read_by)):
            for role in roles:
                operations[f"{role}_{verb}_{field}"] = {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{field}"},
                    "summary": f"The role {role} {verb} {spec.name}.",
                }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Strata",
            "version": version("strata-recommender"),
            "description": "Topics of Strata under their default names; STRATA_TOPIC_PREFIX and STRATA_TOPIC_* give"
            " others. Written by `python -m ops.asyncapi`.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON,
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {content.name: _message(content, payloads.get(content.name)) for content in contents},
            "schemas": _dedented(components),
        },
    }


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schemas of :data:`PUBLIC`, each complete in itself."""
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {name: draft | _dedented(msgspec.json.schema(struct)) for name, struct in PUBLIC.items()}


def files() -> dict[Path, str]:
    """What the files should hold."""
    import yaml  # only for whoever generates

    written = yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=110)
    found = {FOLDER / "asyncapi.yaml": "# Written by `python -m ops.asyncapi`; do not edit.\n" + written}
    for name, schema in schemas().items():
        found[FOLDER / "schemas" / f"{name}.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return found


def _dedented(schema: Any) -> Any:
    """A schema whose descriptions are free of their docstrings' indentation, which msgspec before 0.23 leaves in."""
    if isinstance(schema, list):
        return [_dedented(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: cleandoc(value) if key == "description" and isinstance(value, str) else _dedented(value)
        for key, value in schema.items()
    }


def _channel(spec: Spec, described: Described) -> dict[str, Any]:
    names = [content.name for content in described.contents]
    # numbers as numbers, and the policy as the list that the binding asks for
    config: dict[str, Any] = {k: int(v) if v.isdigit() else v for k, v in spec.config.items()}
    config["cleanup.policy"] = str(config["cleanup.policy"]).split(",")
    return {
        "address": spec.name,
        "title": described.title,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "partitions": spec.partitions,
                "topicConfiguration": config,
                "bindingVersion": "0.5.0",
            }
        },
    }


def _message(content: Content, payload: dict[str, Any] | None) -> dict[str, Any]:
    message = {
        "name": content.name,
        "summary": content.summary,
        "contentType": content.format,
        "bindings": {
            "kafka": {"key": {"type": "string", "description": content.key}, "bindingVersion": "0.5.0"},
        },
    }
    return message | ({"headers": _HEADERS} if payload is None else {"payload": payload})


def main() -> None:
    """Write the files."""
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        print(path.relative_to(FOLDER.parent))


if __name__ == "__main__":
    main()
