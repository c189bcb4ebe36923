"""What Strata itself writes to its topics: one struct for each, msgpack inside, JSON where users read it.

The msgpack structs are ``array_like``: compact, quick, and open to new fields at the end (an older reader ignores
them, a newer one takes the default). Arrays travel as little-endian bytes, so that nothing is ever unpickled.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.errors import InvalidEvent


class ItemVector(Struct, frozen=True, array_like=True, kw_only=True):
    """An encoded item (topic ``vectors``, key ``item_id``): all that ranking needs, so that no text is read again."""

    model: str
    """The encoder's name; a reader with another model ignores the vector and says so."""
    text_hash: bytes
    """BLAKE2b-128 of the text and the model: an unchanged item is not encoded again."""
    tokens: bytes
    """int32 token ids of the text, without special tokens."""
    vector: bytes
    """float16, unit length."""
    title: str
    category: str = ""
    tags: tuple[str, ...] = ()
    available: bool = True
    expires_ms: int | None = None
    safety: tuple[str, ...] = ()


class ProfileRecord(Struct, frozen=True, array_like=True, kw_only=True):
    """One user's state (topic ``profiles``, key ``user_id``, in the partition of his clicks)."""

    applied: int
    """Offset of the last click applied; one at or below it is skipped, so a replay changes nothing."""
    encoded: int
    """Offset of the last click that ``vector`` has seen through BERT; below ``applied``: encode when there is room."""
    clicks: int
    """How many clicks have been applied in all."""
    fresh: int
    """How many entries at the end of ``history`` are new since the record before: what learners learn from."""
    history: tuple[HistoryEntry, ...]
    """The last clicks, oldest first."""
    seen: bytes
    """Packed :data:`SEEN` rows: every item of the user's that is still remembered, its last time and event."""
    events: tuple[str, ...]
    """The event kinds that ``seen`` refers to by position."""
    vector: bytes
    """float16, unit length; empty before the first known item."""
    layer: str
    """The fine layer that the user is in: ``3.5``; empty before layers exist."""
    updated_ms: int
    erased_ms: int = 0
    """Nothing of before this moment is in here: the user's newest erasure, ms since the epoch; 0 without one."""
    paced_ms: int = 0
    """When the next click of one who clicks at the highest rate that teaches would be due; see ``models/pace.py``."""
    damped: tuple[int, ...] = ()
    """Entries of ``history`` that teach nothing, counted from its end (0 is the newest): too many came in a minute."""
    layer_before: str = ""
    """``layer`` in the record before this one; empty: the user was in none, or nothing is known."""
    again: tuple[int, ...] = ()
    """Entries of ``history`` among the ``fresh`` ones whose item the user had met before, counted as ``damped``."""
    again_at: tuple[int, ...] = ()
    """When he last had, seconds since the epoch, for each of ``again``; empty in a record of before this was told."""
    often: bytes = b""
    """Packed :data:`OFTEN` rows: how often, of those of ``seen`` that the user has clicked more than once."""

    @property
    def last_ms(self) -> int:
        """When the user last did something, ms since the epoch (to the second, if it was a dismissal); 0: never."""
        seen = np.frombuffer(self.seen, SEEN)
        return max(
            self.history[-1].ts if self.history else 0,
            int(seen["at"][-1]) * 1000 if len(seen) else 0,
        )


class HistoryEntry(Struct, frozen=True, array_like=True):
    """One click of a history."""

    item_id: str
    ts: int
    """ms since the epoch."""
    event: str
    event_hash: int = 0
    """64-bit hash of the event id, 0 without one: the same event under a new offset counts once."""


SEEN: Final = np.dtype([("item", "<u8"), ("at", "<u4"), ("event", "<u2")])
"""One remembered item: 64-bit hash of its id, seconds since the epoch, position of the event's kind."""


OFTEN: Final = np.dtype([("item", "<u8"), ("times", "<u2")])
"""One item: 64-bit hash of its id, and how many clicks."""


class ApplyMark(Struct, frozen=True, array_like=True):
    """The head of a :class:`ProfileRecord`, decoded alone (0.3 µs) where only the offsets matter."""

    applied: int
    encoded: int


class NeighbourRow(Struct, frozen=True, array_like=True, kw_only=True):
    """One item's co-clicked items (topic ``neighbours``, key ``item_id``)."""

    count: float
    """How often the item was clicked."""
    items: tuple[str, ...]
    weights: bytes
    """float32, one for each of ``items``, heaviest first."""
    offsets: dict[int, int]
    """Partition of ``profiles`` → first offset *not* contained: after a restart, what is older is not added twice."""
    complete: dict[int, int] = {}
    """The same, of the whole table as published before this row: a restart reads on from the largest of these."""
    linear_items: tuple[str, ...] = ()
    """The item's row in the linear part (:mod:`models.linear`); empty where it takes no part."""
    linear_weights: bytes = b""
    """float32, one for each of ``linear_items``, largest first, of either sign."""
    effective: float | None = None
    """The same as ``count``, what was before a break of the stream with a share only; None: no break was ever."""
    breaks: tuple[int, ...] = ()
    """The breaks (:mod:`models.breaks`) that ``weights`` and ``effective`` have seen, ms since the epoch."""


class LayerTree(Struct, frozen=True, kw_only=True):
    """Basis and centres (topic ``layers``, key ``tree``): what a reader needs to say which layer a vector is in.

    A basis is never published without its centres: they mean nothing to one another's neighbours.
    """

    version: int
    """Blocks of vectors learned; of two trees the one with the higher version is the newer."""
    model: str
    dimensions: tuple[int, int]
    """(r, d): a vector of d numbers is reduced to r."""
    basis: bytes
    """float32 [r, d]; z = basis @ u."""
    coarse: bytes
    """float32 [k, r]: the coarse centres, row i is layer ``i``."""
    fine: bytes
    """float32 [k, m, r]: row (i, j) is layer ``i.j``."""
    epochs: tuple[int, ...]
    """How often each fine centre was reseeded, k·m numbers: a layer of another epoch is another layer."""
    created_ms: int
    spread: float = 1.0
    """Mean squared distance of the vectors to their fine centres: the unit of soft membership."""


class LayerInfo(Struct, frozen=True, kw_only=True):
    """One layer (topic ``layers``, key ``layer/<id>``; ``root`` is everybody)."""

    id: str
    label: str
    size: float
    """Share of the recent activity, 0 … 1."""
    epoch: int
    items: tuple[str, ...]
    """Top items, the union over the half-lives, the longest one's heaviest first."""
    counts: bytes
    """float32 [items, half-lives]: decayed counts."""
    totals: tuple[float, ...]
    """Sum of the decayed counts of all items, one for each half-life."""
    half_lives: tuple[float, ...]
    """Clicks (of all users, not of the layer's)."""
    medoids: tuple[str, ...] = ()
    """Of the top items those nearest to the centre: what the layer looks like."""
    titles: tuple[str, ...] = ()
    """Titles of the first few of ``items``, for people."""
    since_ms: int = 0
    """When the layer began, or began anew with another centre, ms since the epoch; 0: not known."""
    updates: int = 0
    """Vectors that moved its centre since; meaningless where ``since_ms`` is 0."""
    joined: float | None = None
    """Of the users refreshed lately who were in this layer or are now, the share that came from another one, 0 … 1;
    new users count nowhere. None: not known. A reseeded layer has its users from others."""
    left: float | None = None
    """In the same way, the share that went to another one."""


class LayerState(Struct, frozen=True, kw_only=True):
    """All that the layers role has learned: with it and the events since, a restart equals never having stopped.

    Arrays are little-endian bytes; item rows are positions in ``items``, since a row is another one in every process.
    """

    format: int
    """1."""
    model: str
    settings: str
    """The learner's settings as text: a state is only continued under those that it was made with."""
    clicks: int
    blocks: int
    refused: int
    items: tuple[str, ...]
    # the space
    basis: bytes
    """float32 [r, d]; empty before the seeding."""
    contents: bytes
    """uint32, see InteractionSpace."""
    scale: float
    kept: float
    # the tree
    centres: tuple[bytes, bytes]
    """float64: coarse, fine."""
    sizes: tuple[bytes, bytes]
    """float64: coarse, fine."""
    inertia: tuple[bytes, bytes]
    """float64: coarse, fine."""
    epochs: tuple[tuple[int, ...], tuple[int, ...]]
    """Coarse, fine."""
    recent: bytes
    """float32 [n, r]: the last vectors, oldest first."""
    mean: bytes
    """float64 [r]."""
    variance: float
    spread: float
    # drift
    errors: tuple[float, ...]
    """What the present ADWIN has been given."""
    boosted: int
    """Blocks for which the longer steps still hold."""
    counters: dict[str, int]
    # what waits
    seeds: bytes
    """float16 [n, d]: vectors kept for the (next) seeding."""
    waiting: bytes
    """float32 [n, d]: vectors of the block that is not full yet."""
    waiting_clicks: tuple[tuple[tuple[int, int], ...], ...]
    """Their clicks, (item, time) each; those of ``seeds`` come first until the tree stands."""
    # counts by layer; the order of groups is root, coarse, fine
    count_sizes: tuple[int, ...]
    """Items of each group."""
    count_items: bytes
    """int32: the groups' items, one group after the other."""
    counts: bytes
    """float32 [items, half-lives]."""
    totals: bytes
    """float64 [half-lives, groups]."""
    landmarks: tuple[int, ...]
    # the lives of the layers; a state from before they were kept has none
    since_ms: tuple[int, ...] = ()
    updates: tuple[int, ...] = ()
    flows: bytes = b""
    """float64 [3, groups]: who stayed, joined, left."""
    flow_weight: float = 1.0


class Checkpoint(Struct, frozen=True, array_like=True):
    """A learner's state together with its input offsets (topic ``layers``, key ``state``): one record, so one truth."""

    offsets: dict[int, int]
    """Partition of ``profiles`` → first offset not contained."""
    state: bytes
    """The learner's own record."""


class Source(Struct, frozen=True):
    """The click that a list follows from. Of two lists for a user the one with the higher offset is the newer."""

    topic: str
    partition: int
    offset: int


class LayerRef(Struct, frozen=True):
    """The layer of a list's user."""

    id: str
    label: str


class Reason(Struct, frozen=True, gc=False):
    """Why an item is in a list: a sentence, the clicks that it follows from, and the parts of its score."""

    text: str
    because: tuple[str, ...]
    parts: dict[str, float]
    """Contribution of each scorer; they add up to the score."""


class RankedItem(Struct, frozen=True, gc=False):
    """One place of a list."""

    item_id: str
    title: str
    score: float
    reason: Reason


class Recommendation(Struct, frozen=True, kw_only=True):
    """A refreshed list (topic ``recommendations``, key ``user_id``, JSON)."""

    user_id: str
    generated_at: int
    """ms since the epoch."""
    event_ts: int
    """Time of the newest click in it, ms since the epoch: freshness is counted from here."""
    model: str
    layers_version: int
    arm: str
    encoded: bool
    """False: the list is from cached item vectors alone; the encoded one follows when there is room."""
    source: Source
    layer: LayerRef | None
    items: tuple[RankedItem, ...]
    weights_version: int = 0
    """Clicks that the ranker's weights had learned from; 0: the configured ones."""


_T = TypeVar("_T")


def decode(data: bytes | None, kind: type[_T]) -> _T:
    """A struct of this module from its msgpack bytes.

    Raises
    ------
    InvalidEvent
        If the bytes are not one: the topic was written by something else.
    """
    if data is None:
        raise InvalidEvent("value: null")
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, TypeError, ValueError) as error:
        raise InvalidEvent(f"{kind.__name__}: {error}") from None


encode = msgspec.msgpack.Encoder().encode
"""Any struct of this module as msgpack bytes."""


def half(vector: NDArray[np.floating]) -> bytes:
    """A vector as little-endian float16 bytes."""
    return vector.astype("<f2").tobytes()


def from_half(data: bytes) -> NDArray[np.float32]:
    """float32 from little-endian float16 bytes."""
    return np.frombuffer(data, dtype="<f2").astype(np.float32)
