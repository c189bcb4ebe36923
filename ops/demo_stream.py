"""What the demo plays: households of the grocery panel, first their past at speed, then their baskets side by side.

A twelfth of the panel's households, so that each comes back often enough to be known; what the till books beside
goods (fuel, coupons, postage) is left out. The data come as one basket after the other; live, many baskets are open
at a time and a line is taken from each in turn, as in a shop with many tills.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import msgspec

from models.events import Click, Item
from producers.dataset import Dataset

_ONE_IN: Final = 12  # households: about 200
_NO_GOODS: Final = frozenset({"Fuel", "Coupon", "Miscellaneous", "Postal Center", "Cntrl/Store Sup"})
_PAUSE_MS: Final = 600_000  # after so long without a line a household's next one begins another basket
PAST_MS: Final = 25 * 3_600_000
"""How long ago the history ends when the demo begins: a day and an hour."""


@dataclass(frozen=True)
class Stream:
    """What is sent, in this order.

    Attributes
    ----------
    items
        The whole catalogue: what the history holds first, the most bought at the head, since that is needed first.
    history
        Past clicks; their times keep their distances and end :data:`PAST_MS` ago.
    live
        Clicks still to come, in the order in which they are to be sent.
    """

    items: Sequence[Item]
    history: Sequence[Click]
    live: Sequence[Click]


def stream(data: Dataset, history: int, live: int, at_once: int, *, now_ms: int | None = None) -> Stream:
    """Choose from a data set.

    Parameters
    ----------
    history, live
        How many clicks.
    at_once
        Baskets open at a time.
    """
    catalogue = [item for item in data.items() if item.category not in _NO_GOODS]
    goods = {item.item_id for item in catalogue}
    chosen = (
        click for click in data.clicks() if zlib.crc32(click.user_id.encode()) % _ONE_IN == 0 and click.item_id in goods
    )
    past = list(islice(chosen, history))
    bought = Counter(click.item_id for click in past)
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    shift = now_ms - PAST_MS - past[-1].ts if past else 0
    return Stream(
        sorted(catalogue, key=lambda item: -bought[item.item_id]),
        [msgspec.structs.replace(click, ts=click.ts + shift) for click in past],
        list(side_by_side(islice(chosen, live), at_once)),
    )


def baskets(clicks: Iterable[Click]) -> list[list[Click]]:
    """Clicks of one household that follow each other without a pause, in the order in which they begin."""
    found: list[list[Click]] = []
    last: dict[str, list[Click]] = {}
    for click in clicks:
        basket = last.get(click.user_id)
        if basket is None or click.ts - basket[-1].ts > _PAUSE_MS:
            basket = last[click.user_id] = []
            found.append(basket)
        basket.append(click)
    return found


def side_by_side(clicks: Iterable[Click], at_once: int) -> Iterator[Click]:
    """A line of each open basket in turn. Each household's own clicks stay in their order."""
    waiting = baskets(clicks)
    tills: dict[str, deque[Click]] = {}
    while waiting or tills:
        later = []
        for basket in waiting:
            user_id = basket[0].user_id
            if len(tills) < at_once and user_id not in tills:
                tills[user_id] = deque(basket)
            else:
                later.append(basket)
        waiting = later
        for user_id, lines in list(tills.items()):
            yield lines.popleft()
            if not lines:
                del tills[user_id]
