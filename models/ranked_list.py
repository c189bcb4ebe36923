"""Lists as users get them: from the arrays of a batch to each user's items, and those as they are published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.choosing import to_four_places
from models.items import ItemStore
from models.neighbours import WINDOW
from models.profile import Profile
from models.reasons import SHOWN, Clicks, name, sentence
from models.records import RankedItem, Reason

if TYPE_CHECKING:
    from models.layer_membership import Membership
    from models.layer_view import LayerView

_OWN: Final = SHOWN.index("own")
_CLICKS: Final = 10_000  # whose titles are kept from one list to the next


@dataclass(slots=True)
class RankedList:
    """One user's list.

    Attributes
    ----------
    rows : list[int]
        Item rows, best first; shorter than asked where little is on offer.
    scores : list[float]
        features · weights, to four places; not always falling, since diversity reorders.
    parts : list[list[float]]
        For each item what each of :data:`~models.reasons.SHOWN` adds, to four places; they sum up to the score. The
        last, what the policy adds, is missing where it has no boosts.
    because : list[list[int]]
        For each item the rows of the clicks that raise it, the strongest first; -1 where there are fewer.
    layer, label : str
        The user's layer, empty before there is one.
    pinned : frozenset[int]
        The rows that a pin of the policy has put at their places.
    """

    rows: list[int]
    scores: list[float]
    parts: list[list[float]]
    because: list[list[int]]
    layer: str
    label: str
    pinned: frozenset[int] = frozenset()


def lists_of(
    profiles: Sequence[Profile],
    layers: LayerView | None,
    membership: Membership | None,
    picked: NDArray[np.int64],
    listed: NDArray[np.float32],
    parts: NDArray[np.float32],
    causes: NDArray[np.int64],
) -> list[RankedList]:
    """Each user's list; sets ``profile.layer``.

    Parameters
    ----------
    picked : int64 [b, n]
        Item rows, best first.
    listed : float32 [b, n]
        Their scores, -inf from a list's end on.
    parts : float32 [b, n, parts]
        What each of :data:`~models.reasons.SHOWN` adds; the last may be missing.
    causes : int64 [b, n, k]
        :func:`~models.reasons.because`.
    """
    sizes = np.isfinite(listed).sum(axis=1).tolist()
    own = [-1] * len(profiles) if membership is None else membership.layers[:, 0].tolist()
    sums, rounded = (made.tolist() for made in to_four_places(parts))
    each = zip(profiles, sizes, own, picked.tolist(), sums, rounded, causes.tolist(), strict=True)
    lists, n = [], picked.shape[1]
    for profile, size, layer, rows, scores, told, named in each:
        profile.layer = label = ""
        if layers is not None and layer >= 0:
            profile.layer = layers.layer_id(layer)
            label = layers.label(profile.layer)
        if size < n:
            rows, scores, told, named = rows[:size], scores[:size], told[:size], named[:size]
        lists.append(RankedList(rows, scores, told, named, profile.layer, label))
    return lists


def published(ranked: RankedList, profile: Profile, items: ItemStore, clicks: Clicks) -> tuple[RankedItem, ...]:
    """A list as it is published: titles, and each item's reason.

    Parameters
    ----------
    clicks
        Of these items; emptied when they are many.
    """
    ids, titles = items.ids, items.titles
    events = dict(zip(profile.rows[-WINDOW:], profile.events[-WINDOW:], strict=True))  # a cause is one of these
    if len(clicks) > _CLICKS:
        clicks.clear()
    out = []
    for row, total, values, causes in zip(ranked.rows, ranked.scores, ranked.parts, ranked.because, strict=True):
        met, times = "", 0
        if values[_OWN] > 0:
            item = int(items.hashes[row])
            met, times = profile.seen[item][1], profile.often.get(item, 1)
        clicked, named, first = name(causes, clicks)
        event = events.get(first, met) if named else ""  # what he chose himself may be longer ago
        text = sentence(total, values, named, event, ranked.label, met=met, times=times, featured=row in ranked.pinned)
        out.append(RankedItem(ids[row], titles[row], total, Reason(text, clicked, dict(zip(SHOWN, values)))))  # noqa: B905 (the last part is there where there are boosts)
    return tuple(out)
