"""Why an item is in a list: the clicks that it follows from, and a plain sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.features import PARTS
from models.finding_arrays import Clicks as ClickWeights
from models.finding_arrays import Tables
from models.items import ItemStore
from models.reason_loops import Told, Vectors, causes_of

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

SHOWN: Final = (*PARTS, "policy")
"""The parts of a reason: those of the ranking, and what the policy's boosts add."""

NAMED: Final = 3
"""Clicks named as the cause of an item, at most."""

MATTERS: Final = 0.1
"""Share of all that raises an item from which on a part is told. Below it a click is no reason: where popularity alone
ranks, co has a thousandth of the score, to put equals in order."""

_OWN: Final = PARTS.index("own")
_TITLE: Final = 60  # characters of a title in a sentence
_TOLD: Final = Told(
    len(PARTS), co=PARTS.index("co"), text=PARTS.index("text"), linear=PARTS.index("linear"), share=MATTERS, tiny=1e-9
)


def because(
    items: ItemStore,
    tables: Tables,
    clicks: ClickWeights,
    vectors: NDArray[np.float32],
    picked: NDArray[np.int64],
    parts: NDArray[np.float32],
) -> NDArray[np.int64]:
    """For each user and item the rows of the clicks that raise it, the strongest first; -1 where there are fewer.

    What the user has chosen himself follows from that, where it matters, and from other clicks after it. By what is
    clicked together, where that matters under the weights that serve (:data:`MATTERS`): co and the linear
    part, each click with its share of what each of them adds. Else by text where that matters, else by none. By text
    those clicks that the item reads like (:mod:`models.likeness`). Of an item that reads like none of them in
    particular, a click j raises the cosine of the user's vector u ∝ Σ a_j v_j with the item q where
    v_j·q > (u·q)(v_j·u), the derivative in a_j.

    Parameters
    ----------
    tables, clicks
        What speaks for items, and how much each click of a user counts with it.
    vectors : float32 [b, d]
        The users'.
    picked : int64 [b, t]
    parts : float32 [b, t, len(PARTS) or more]
        What each of :data:`SHOWN` adds.

    Returns
    -------
    int64 [b, t, NAMED]
    """
    known = Vectors(items.vectors, items.mean, items.centred_scale)
    causes = causes_of(tables, clicks, known, vectors, picked, parts, _TOLD, NAMED)
    own = parts[:, :, _OWN]
    if own.any():
        raised = np.maximum(parts[:, :, : len(PARTS)], 0).sum(axis=2)
        itself = (own > 0) & (own >= np.float32(MATTERS) * raised)
        causes[itself, 1:] = causes[itself, :-1]
        causes[itself, 0] = picked[itself]
    return causes


class Clicks(dict[int, tuple[str, str]]):
    """Row → id and title of a click, looked up once for all that follows from it, while the catalogue stays as it is.

    The title is empty while the item is not encoded: it would be its id, which says nothing to anybody.
    """

    def __init__(self, items: ItemStore) -> None:
        super().__init__()
        self._items = items

    def __missing__(self, row: int) -> tuple[str, str]:
        items = self._items
        clicked = self[row] = (items.ids[row], short(items.titles[row]) if items.encoded[row] else "")
        return clicked


def name(causes: Sequence[int], clicks: Clicks) -> tuple[tuple[str, ...], str, int]:
    """Ids of an item's causes, two of their titles at most as a phrase, and the row of the first that is named."""
    ids, first, second, named = [], "", "", -1
    for row in causes:
        if row < 0:
            break
        item_id, title = clicks[row]
        ids.append(item_id)
        if not first:
            if title:
                first, named = title, row
        elif not second and title != first:  # two pack sizes may share a title
            second = title
    return tuple(ids), f"{first} and {second}" if second else first, named


def sentence(
    total: float,
    parts: Sequence[float],
    named: str,
    event: str,
    layer: str,
    *,
    met: str = "",
    times: int = 0,
    featured: bool = False,
) -> str:
    """One sentence for one item.

    Parameters
    ----------
    total
        The score.
    parts
        What each of :data:`SHOWN` adds to it; the last may be missing.
    named
        Titles of the clicks that it follows from as one phrase, the strongest first; empty where none can be named.
    event
        Kind of the strongest.
    layer
        Label of the user's layer, empty where he is in none.
    met, times
        Kind of the user's last event with the item itself, and how often he has clicked it.
    featured
        The policy has put it there.
    """
    co, text, own_layer, sequence, linear, own, popularity, new, *policy = parts  # as PARTS has them
    if policy:
        total -= policy[0]
        featured = featured or policy[0] > total
    if featured:
        return "Featured"
    raised = 0.0
    for part in (co, text, own_layer, sequence, linear, own, popularity, new):
        if part > 0:  # a learned weight may be below 0
            raised += part
    by_layer = layer and own_layer >= MATTERS * raised > 0
    together = (co if co > 0 else 0.0) + (linear if linear > 0 else 0.0)
    popular = popularity if layer else popularity + own_layer  # who is in no layer is with everybody
    if own >= MATTERS * raised > 0 and own > max(together, text, sequence, popular):
        # of many times it is known when the last was, and what kind of event that was
        return f"Something you {VERBS.get(met, 'chose')} before" if times == 1 else f"Something you chose {times} times"
    if named:
        verb = VERBS.get(event, "chose")
        told = f"Because you {verb} {named}" if together >= MATTERS * raised else f"Like {named}, which you {verb}"
        if by_layer:
            return f"{told}; people in ‘{layer}’ also choose it"
        return f"{told}; popular right now" if popular >= 0.3 * raised > 0 else told
    if by_layer:
        return f"People in ‘{layer}’ choose it"
    if sequence > max(together, text, popular, 0):
        return "Often chosen next by people who chose what you chose"
    if together > max(text, popular, 0):
        return "Often chosen together with what you chose"
    if text > max(popular, 0):
        return "Close to what you have been choosing"
    if popular > 0:
        return "Popular right now"
    # of what is new nothing is known; what is known and does not speak for it, speaks against it
    return "New in the catalogue" if new > 0 or not any(parts) else "Something different"


def short(title: str) -> str:
    """A title that fits into a sentence."""
    return title if len(title) <= _TITLE else title[: _TITLE - 1].rstrip() + "…"
