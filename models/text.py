"""How an item reads to the language model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from string import Formatter
from typing import Final

from models.errors import ConfigurationError
from models.events import Item

_FIELDS: Final[dict[str, Callable[[Item], str]]] = {
    "title": lambda item: item.title,
    "category": lambda item: item.category,
    "tags": lambda item: ", ".join(tag for tag in item.tags if tag.strip()),
    "description": lambda item: item.description,
}


class ItemText:
    """A template such as ``{title}. {category}. {tags}. {description}``.

    A field that is empty takes the separator before it along, so that ``Red shoes`` without a category does not
    become ``Red shoes. . ``.

    Parameters
    ----------
    template
        Text with the fields ``{title}``, ``{category}``, ``{tags}`` and ``{description}``.

    Raises
    ------
    ConfigurationError
        If the template names another field or none.

    Examples
    --------
    >>> text = ItemText("{title}. {category}. {tags}")
    >>> text(Item(item_id="1", title="Red shoes", tags=("summer", "sale")))
    'Red shoes. summer, sale'
    """

    def __init__(self, template: str) -> None:
        self.template = template
        try:
            self._parts = [(literal, field) for literal, field, _, _ in Formatter().parse(template)]
        except ValueError as error:
            raise ConfigurationError(f"item text template {template!r}: {error}") from None
        names = [field for _, field in self._parts if field is not None]
        wrong = [name for name in names if name not in _FIELDS]
        if wrong or not names:
            known = ", ".join("{" + name + "}" for name in _FIELDS)
            raise ConfigurationError(f"item text template {template!r}: {wrong or 'no field'}; the fields are {known}")

    def __call__(self, item: Item) -> str:
        """The item's text."""
        text, present = "", True
        for literal, field in self._parts:
            value = "" if field is None else _FIELDS[field](item).strip()
            present = bool(value) if field is not None else present
            if present:
                # at the front a separator has nothing to separate, but a word ("Product: ") is part of the text
                text += (literal if text or any(map(str.isalnum, literal)) else "") + value
        return text.strip()


def text_hash(model: str, *texts: str) -> bytes:
    """BLAKE2b-128 of texts and the model that reads them: equal hashes have equal vectors."""
    state = hashlib.blake2b(model.encode(), digest_size=16)
    for text in texts:
        state.update(b"\0" + text.encode("utf-8", "surrogatepass"))
    return state.digest()
