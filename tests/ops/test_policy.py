"""``strata policy check``: what is wrong with a file is told before it runs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from models.errors import ConfigurationError
from ops import cli, policy
from producers.connection import Connection
from producers.dataset import write
from producers.publisher import Message, Publisher
from producers.topics import Topics

RULES = """
blocked_items = ["sku-1", "sku-13"]
[category_caps]
"*" = 4
Shoes = 2
[users.ann]
blocked_labels = ["alcohol"]
[[boosts]]
name = "summer"
tag = "sumer"
add = 0.3
[[boosts]]
name = "warm"
tag = "summer"
add = -0.1
[[pins]]
name = "launch"
item = "sku-2"
place = 1
"""
ITEMS = [
    {"item_id": "sku-1", "title": "Red shoes", "category": "Shoes", "tags": ["summer", "summer"]},
    {"item_id": "sku-2", "title": "Blue shoes", "category": "Shoes", "safety": ["alcohol"]},
]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(RULES)
    return path


def rows(text: str) -> set[str]:
    return {" ".join(line.replace("│", " ").split()) for line in text.splitlines()}


def test_each_rule_says_how_many_items_it_is_about(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STRATA_KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.setattr(cli.console, "width", 120)
    data = write(tmp_path / "shop", ITEMS, [])
    done = CliRunner().invoke(cli.app, ["policy", "check", str(written), "--items", str(data.folder)])
    assert done.exit_code == 0, done.output
    assert "can be used" in done.output
    assert rows(done.output) >= {
        "blocked for everybody item sku-1 1",
        "blocked for everybody item sku-13 none has it",
        "2 in a list at most category Shoes 2",
        "blocked for ann label alcohol 1",
        "boost:summer, +0.3 tag sumer none has it",
        "boost:warm, -0.1 tag summer 1",
        "pin:launch, place 1 item sku-2 1",
    }
    assert "category *" not in done.output, "a cap for every category is about none that could be misspelt"


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"diversity = 2", "line 1: diversity"), (b"\xff", "not UTF-8"), (b"a = ", "not TOML"), (None, "cannot be read")],
)
def test_a_file_that_cannot_be_used_is_told_with_the_line(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "policy.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=told):
        policy.read(path)


@pytest.mark.broker
def test_the_catalogue_is_the_topic_as_it_stands(tansu: Connection, topics: Topics) -> None:
    topics.ensure(tansu)
    publisher = Publisher(tansu)
    for item in (*ITEMS, ITEMS[0] | {"category": "Boots"}):
        publisher.publish([Message(topics.items, str(item["item_id"]).encode(), msgspec.json.encode(item), 0)])
    publisher.publish([Message(topics.items, b"sku-2", None, 0), Message(topics.items, b"x", b"no item", 0)])
    publisher.close()
    counts = policy.count(policy.catalogue(tansu, topics))
    assert counts[("category", "Boots")] == counts[("item", "sku-1")] == 1
    assert counts[("category", "Shoes")] == counts[("item", "sku-2")] == 0
