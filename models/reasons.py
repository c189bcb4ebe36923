"""Why an item is in a list, in a plain sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

VERBS: Final[Mapping[str, str]] = {
    "purchase": "bought",
    "cart": "put in your cart",
    "rating": "rated",
    "like": "liked",
    "play": "played",
    "watch": "watched",
    "read": "read",
    "view": "looked at",
    "click": "looked at",
}
"""Event kind → what the user did; any other kind: chose."""

_TITLE: Final = 60  # characters of a title in a sentence


def sentence(parts: Mapping[str, float], because: Sequence[tuple[str, str]], layer: str) -> str:
    """One sentence for one item.

    Parameters
    ----------
    parts
        Contribution of each scorer to the score.
    because
        (title, event kind) of the clicks that it follows from, the strongest first.
    layer
        Label of the user's layer, empty where he is in none.
    """
    total = sum(value for value in parts.values() if value > 0) or 1.0
    by_layer = bool(layer) and parts.get("layer", 0) >= 0.1 * total
    popular = parts.get("popularity", 0) >= 0.3 * total
    if because:
        named = " and ".join(short(title) for title, _ in because[:2])
        start = "Because you" if parts.get("co", 0) >= parts.get("text", 0) else "Similar to what you chose: you"
        text = f"{start} {VERBS.get(because[0][1], 'chose')} {named}"
        if by_layer:
            return f"{text}; people in ‘{layer}’ also choose it"
        return f"{text}; popular right now" if popular else text
    if by_layer:
        return f"People in ‘{layer}’ choose it"
    if parts.get("text", 0) > parts.get("popularity", 0):
        return "Close to what you have been choosing"
    return "Popular right now" if parts.get("popularity", 0) > 0 else "New in the catalogue"


def short(title: str) -> str:
    """A title that fits into a sentence."""
    return title if len(title) <= _TITLE else title[: _TITLE - 1].rstrip() + "…"
