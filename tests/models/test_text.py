"""The template that makes an item readable."""

import doctest

import pytest

import models.text
from models.errors import ConfigurationError
from models.events import Item
from models.text import ItemText, text_hash

FULL = Item(item_id="1", title="Red shoes", category="Shoes", tags=("summer", " "), description="Soft.")
BARE = Item(item_id="2", title="Red shoes")


@pytest.mark.parametrize(
    ("template", "item", "text"),
    [
        ("{title}. {category}. {tags}. {description}", FULL, "Red shoes. Shoes. summer. Soft."),
        ("{title}. {category}. {tags}. {description}", BARE, "Red shoes"),
        ("{category}: {title}", BARE, "Red shoes"),
        ("item: {title} ({category})", FULL, "item: Red shoes (Shoes)"),
        ("{title} ({category})", BARE, "Red shoes"),
        ("{title}", FULL, "Red shoes"),
    ],
)
def test_an_empty_field_takes_its_separator_along(template: str, item: Item, text: str) -> None:
    assert ItemText(template)(item) == text


@pytest.mark.parametrize("template", ["{name}", "no field", "{title", "{0}", "{}"])
def test_a_wrong_template_is_told_at_start(template: str) -> None:
    with pytest.raises(ConfigurationError, match="template"):
        ItemText(template)


def test_the_hash_tells_models_and_texts_apart() -> None:
    hashes = {text_hash("m", "ab", "c"), text_hash("m", "a", "bc"), text_hash("n", "ab", "c"), text_hash("m", "abc")}
    assert len(hashes) == 4
    assert text_hash("m", "ab", "c") == text_hash("m", "ab", "c")


def test_the_examples_run() -> None:
    assert doctest.testmod(models.text).failed == 0
