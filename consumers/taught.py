"""What those who learn from ``profiles`` take of its records, and of the vectors that they need beside them."""

from __future__ import annotations

from consumers.client import Record
from consumers.tables import Handler
from models.items import ItemStore
from models.neighbours import WINDOW
from models.records import ItemVector, ProfileRecord, decode


def taught(profile: ProfileRecord, items: ItemStore) -> tuple[list[int], list[int]]:
    """A profile's new clicks with those before them that they still belong with.

    Returns
    -------
    rows : list[int]
        Of these clicks, oldest first.
    places : list[int]
        Where in ``rows`` the new ones are, without those that came too fast to teach.
    """
    rows = [items.mention(entry.item_id) for entry in profile.history[-profile.fresh - WINDOW :]]
    damped = {len(rows) - 1 - back for back in profile.damped}
    return rows, [at for at in range(max(0, len(rows) - profile.fresh), len(rows)) if at not in damped]


def before(rows: list[int], place: int) -> list[int]:
    """The clicks that a click still belongs with, newest first."""
    return rows[max(0, place - WINDOW) : place][::-1]


def vectors_into(items: ItemStore, model: str) -> Handler:
    """A handler of the topic ``vectors``: another model's are left out, the catalogue role encodes them again."""

    def take(record: Record) -> None:
        item_id = (record.key or b"").decode(errors="replace")
        if record.value is None:
            items.withdraw(item_id)
            return
        vector = decode(record.value, ItemVector)
        if vector.model == model:
            items.put(item_id, vector)

    return take
