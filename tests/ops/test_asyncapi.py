"""The AsyncAPI document and the JSON Schemas: valid, complete, up to date, and true of the code."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from models.errors import InvalidEvent
from models.events import Click, Item, decode_click, decode_item
from models.impressions import Impression, decode_impression
from ops import asyncapi
from ops.roles import ROLES
from producers.replay import click_message, impression_message, item_message
from producers.topics import Topics

ROOT = Path(__file__).parents[2]
SPECIFICATION = Path(sys.prefix) / "share" / "asyncapi" / "3.0.0.json"


def validator(schema: dict[str, Any]) -> Any:
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


def accepts(name: str, value: bytes) -> bool:
    return bool(validator(asyncapi.schemas()[name]).is_valid(json.loads(value)))


def test_the_files_are_up_to_date() -> None:
    for path, text in asyncapi.files().items():
        assert path.is_file()
        assert path.read_text() == text, f"{path.name}: run `python -m ops.asyncapi`"


def test_the_document_is_asyncapi_3() -> None:
    if not SPECIFICATION.is_file():
        pytest.skip("AsyncAPI's schema is not there: `.ci/tools .venv` fetches it where npm is at hand")
    specification = validator(json.loads(SPECIFICATION.read_text()))
    document = yaml.safe_load((ROOT / "ops" / "asyncapi.yaml").read_text())
    assert [f"{e.json_path}: {e.message[:200]}" for e in specification.iter_errors(document)] == []
    del document["info"]["title"]
    assert not specification.is_valid(document), "it accepts anything"


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi.document()
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))
    assert len(references) > 20
    for reference in references:
        found: Any = document
        for part in reference.split("/"):
            found = found[part]


def test_every_topic_and_every_role_is_in_it() -> None:
    document = asyncapi.document()
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {spec.name for spec in Topics().specs()}
    assert list(asyncapi.TOPICS) == list(document["channels"]), "TOPICS names a topic that is no more"
    acting = {name.partition("_")[0] for name in document["operations"]}
    assert set(ROLES) <= acting, "a role reads and writes no topic: add it to TOPICS in ops/asyncapi.py"


def test_the_examples_of_the_readme_fit_their_schemas() -> None:
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    kinds = {"title": "item", "ts": "click", "generated_at": "recommendation"}
    seen = set()
    for block in blocks:
        kind = next((kind for key, kind in kinds.items() if f'"{key}"' in block.split('"items"')[0]), None)
        name = "impression" if '"items": ["' in block else kind
        if name is not None:
            assert accepts(name, block.encode()), block
            seen.add(name)
    assert seen == {*kinds.values(), "impression"}


def test_what_strata_sends_fits_the_schemas() -> None:
    topics = Topics()
    item = Item(item_id="a", title="Tea", tags=("hot",), expires_at=5, vector=(0.5, 1.0))
    assert accepts("item", item_message(item, topics).value or b"")
    assert accepts("click", click_message(Click(user_id="u", item_id="a", ts=7, value=1.5), topics).value or b"")
    impression = Impression(user_id="u", items=("a", "b"), ts=7)
    assert accepts("impression", impression_message(impression, topics).value or b"")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("item", {"item_id": "a"}),
        ("item", {"item_id": "", "title": "Tea"}),
        ("item", {"item_id": "a", "title": "Tea", "available": "yes"}),
        ("click", {"user_id": "u", "ts": 1}),
        ("click", {"user_id": "u", "item_id": "a", "ts": [1]}),
        ("click", {"user_id": "u", "item_id": "a", "ts": 1, "event": ""}),
        ("impression", {"user_id": "u", "item_id": "a", "ts": 1}),
        ("impression", {"user_id": "u", "items": [], "ts": 1}),
    ],
)
def test_what_a_schema_refuses_the_decoder_refuses_too(kind: str, value: dict[str, object]) -> None:
    data = msgspec.json.encode(value)
    assert not accepts(kind, data)
    with pytest.raises(InvalidEvent):
        {"item": decode_item, "click": decode_click, "impression": decode_impression}[kind](data)


def test_a_topic_that_is_not_described_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(asyncapi.TOPICS, "layers")
    with pytest.raises(Exception, match=r"topic layers is not described: add it to TOPICS in ops/asyncapi\.py"):
        asyncapi.document()
