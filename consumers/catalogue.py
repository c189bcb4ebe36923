"""The catalogue role: items in, vectors out.

``items`` is read from its beginning at every start and nothing is committed: the topic is compacted, an item whose
text is unchanged is recognised by its hash and not encoded again, and so a changed template, another model, or a
lost offset heals by itself.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from consumers.client import Consumer, Partition, Record
from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.stage import Work
from consumers.tables import OpenTables
from models.encode_queue import Outlet
from models.encoder import Tokenises
from models.errors import InvalidEvent
from models.events import Item, Limits, check_text, decode_item
from models.records import ItemVector, decode, encode, half
from models.text import ItemText, text_hash
from producers.publisher import Message
from producers.topics import Topics

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CatalogueConfig:
    """How items are read."""

    text: str = "{title}. {category}. {tags}. {description}"
    """Template of the text that the item's vector is made of."""
    history_text: str = "{title}"
    """Template of the item's part in a user's text; its token ids travel with the vector."""
    remembered_texts: int = 200_000
    """Encoded texts kept in memory, so that equal texts are encoded once (about 1 KB each)."""
    publish_s: float = 0.2
    """How long finished vectors may wait for company before they are published, s."""


@dataclass(slots=True)
class _Text:
    """A text that is being encoded, and the items that wait for it."""

    tokens: bytes
    waiting: dict[str, tuple[int, Item]]


class Catalogue:
    """A :class:`~consumers.stage.Stage` in assign mode on all partitions of ``items``.

    Parameters
    ----------
    consumer
        The one that feeds this stage: it tells when ``items`` has been read to its end.
    encoder
        Names the model and tokenises; the vectors come through ``outlet``.
    open_tables
        Makes the reader of ``vectors``, which is caught up before the first item.
    """

    def __init__(
        self,
        consumer: Consumer,
        encoder: Tokenises,
        outlet: Outlet,
        open_tables: OpenTables,
        topics: Topics,
        diversion: Diversion,
        metrics: Metrics,
        config: CatalogueConfig = CatalogueConfig(),
        limits: Limits = Limits(),
    ) -> None:
        self._consumer = consumer
        self._encoder = encoder
        self._outlet = outlet
        self._vectors = open_tables({topics.vectors: self._known_vector})
        self._topics = topics
        self._diversion = diversion
        self._metrics = metrics
        self._config = config
        self._limits = limits
        self._text = ItemText(config.text)
        self._history_text = ItemText(config.history_text)
        self._known: dict[str, bytes] = {}  # item → hash of its published record
        self._unmet: dict[Partition, set[str]] = {}  # vectors whose item has not been met since the start
        self._took_all = False
        self._encoded: OrderedDict[bytes, tuple[bytes, bytes]] = OrderedDict()  # text hash → (tokens, vector)
        self._encoding: dict[bytes, _Text] = {}
        self._messages: list[Message] = []
        self._due = math.inf
        self._other_model = 0

    # -- what is known already ----------------------------------------------------------------------------------

    def _known_vector(self, record: Record) -> None:
        item_id = (record.key or b"").decode(errors="replace")
        unmet = self._unmet.setdefault((self._topics.items, record.partition), set())
        if record.value is None:
            self._known.pop(item_id, None)
            unmet.discard(item_id)
            return
        vector = decode(record.value, ItemVector)
        unmet.add(item_id)
        if vector.model != self._encoder.name or len(vector.vector) != 2 * self._encoder.dimension:
            self._other_model += 1
            return
        self._known[item_id] = _mark(record.value)
        self._remember(vector.text_hash, vector.tokens, vector.vector)

    def assigned(self, partitions: Iterable[Partition]) -> Mapping[Partition, int] | None:
        """Read the table of vectors, then the items from their beginning."""
        self._vectors.catch_up()
        if self._other_model:
            log.warning(
                "catalogue: %(vectors)d vectors are of another model than %(model)s and are encoded again",
                {"vectors": self._other_model, "model": self._encoder.name},
            )
        log.info("catalogue: %(items)d items are encoded already", {"items": len(self._known)})
        return None

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Never happens in assign mode."""

    # -- items --------------------------------------------------------------------------------------------------

    def submit(self, records: Sequence[Record]) -> int:
        """See :class:`~consumers.stage.Stage`. Refuses while the encoder's queue is full."""
        self._took_all = False
        for taken, record in enumerate(records):
            try:
                if not self._item(record):
                    return taken
            except Exception as error:
                self._diversion.divert(record, error)
        self._took_all = True
        return len(records)

    def _item(self, record: Record) -> bool:
        key = _item_id(record.key)
        if record.value is None:
            self._withdraw(key, record.partition)
            self._diversion.passed()
            return True
        self._unmet.get((record.topic, record.partition), set()).discard(key)
        item = decode_item(record.value, record.headers, self._limits)
        if key != item.item_id:
            raise InvalidEvent("key: must be the item_id, or compaction would lose items", "validate")
        text, history = self._text(item), self._history_text(item)
        digest = text_hash(self._encoder.name, text, history, repr(item.vector) if item.vector else "")
        known = self._encoded.get(digest)
        if known is None and item.vector is not None:
            known = (self._tokens(history), half(self._given(item.vector)))
            self._remember(digest, *known)
        if known is not None:
            self._publish(item, record.partition, digest, *known)
        elif not self._encode(digest, text, history, item, record.partition):
            return False
        self._diversion.passed()
        return True

    def _encode(self, digest: bytes, text: str, history: str, item: Item, partition: int) -> bool:
        encoding = self._encoding.get(digest)
        if encoding is None:
            if self._outlet.pending >= self._outlet.capacity:
                return False  # before the work of tokenising, which would be done again
            tokens = self._encoder.tokenise([text])[0]
            if not self._outlet.submit(digest, self._encoder.inputs([[tokens]])[0]):
                return False
            encoding = self._encoding[digest] = _Text(self._tokens(history), {})
        encoding.waiting[item.item_id] = (partition, item)
        # an older text of the same item that is still being encoded must not win
        for other, waiting in self._encoding.items():
            if other != digest:
                waiting.waiting.pop(item.item_id, None)
        return True

    def _tokens(self, text: str) -> bytes:
        return self._encoder.tokenise([text])[0].astype("<i4").tobytes()

    def _given(self, vector: Sequence[float]) -> NDArray[np.float32]:
        if len(vector) != self._encoder.dimension:
            raise InvalidEvent(
                f"vector: has {len(vector)} numbers, the model {self._encoder.name} {self._encoder.dimension}",
                "validate",
            )
        given = np.asarray(vector, np.float64)
        with np.errstate(over="ignore"):  # infinite is an answer
            norm = np.linalg.norm(given)
        if not 1e-12 < norm < 1e12:
            raise InvalidEvent("vector: its length is zero or out of range", "validate")
        return (given / norm).astype(np.float32)

    def _publish(self, item: Item, partition: int, digest: bytes, tokens: bytes, vector: bytes) -> None:
        value = encode(
            ItemVector(
                model=self._encoder.name,
                text_hash=digest,
                tokens=tokens,
                vector=vector,
                title=item.title.strip() or item.category or item.item_id,
                category=item.category,
                tags=item.tags,
                available=item.available,
                expires_ms=item.expires_ms,
                safety=item.safety,
            )
        )
        mark = _mark(value)
        if self._known.get(item.item_id) == mark:
            self._metrics.items.labels("unchanged").inc()
            return
        self._known[item.item_id] = mark
        self._messages.append(Message(self._topics.vectors, item.item_id.encode(), value, partition))

    def _withdraw(self, item_id: str, partition: int) -> None:
        for encoding in self._encoding.values():
            encoding.waiting.pop(item_id, None)
        self._unmet.get((self._topics.items, partition), set()).discard(item_id)
        self._known.pop(item_id, None)
        self._metrics.items.labels("withdrawn").inc()
        self._messages.append(Message(self._topics.vectors, item_id.encode(), None, partition))

    def _sweep(self) -> None:
        """Withdraw what has a vector but no item, once a partition of ``items`` has been read to its end.

        A withdrawal that came while this role was down longer than the topic keeps tombstones leaves no other trace.
        """
        for partition, item_ids in list(self._unmet.items()):
            position, end = self._consumer.position(partition), self._consumer.highwater(partition)
            if position is None or end is None or position < end:
                continue
            for item_id in sorted(item_ids):
                self._withdraw(item_id, partition[1])
            del self._unmet[partition]

    def _remember(self, digest: bytes, tokens: bytes, vector: bytes) -> None:
        self._encoded[digest] = (tokens, vector)
        self._encoded.move_to_end(digest)
        if len(self._encoded) > self._config.remembered_texts:
            self._encoded.popitem(last=False)

    # -- vectors ------------------------------------------------------------------------------------------------

    def poll(self, now: float) -> Work | None:
        """See :class:`~consumers.stage.Stage`."""
        for encoded in self._outlet.drain():
            digest = cast(bytes, encoded.key)
            encoding = self._encoding.pop(digest)
            if encoded.vector is None:
                # an item without a vector is not offered; the message itself is sound and stays on its topic
                log.error(
                    "catalogue: %(items)d item(s) could not be encoded",
                    {"items": len(encoding.waiting)},
                    exc_info=encoded.error,
                )
                self._metrics.items.labels("failed").inc(len(encoding.waiting))
                continue
            vector = half(encoded.vector)
            self._remember(digest, encoding.tokens, vector)
            for partition, item in encoding.waiting.values():
                self._publish(item, partition, digest, encoding.tokens, vector)
                self._metrics.items.labels("encoded").inc()
        if self._took_all and self._unmet:
            self._sweep()
        if not self._messages and not self._diversion:
            return None
        self._due = min(self._due, now + self._config.publish_s)
        if now < self._due and self._encoding:
            return None  # more is coming, and many small publications would cost more than they gain
        self._due = math.inf
        messages, self._messages = self._messages, []
        return Work(messages + self._diversion.take())

    def published(self, work: Work) -> None:
        """Nothing is committed, so nothing is left to do."""

    def refused(self, work: Work, refused: Sequence[tuple[Message, str]]) -> Work | None:
        """See :class:`~consumers.stage.Stage`. An item without a vector is not offered; its message stays."""
        if any(message.topic != self._topics.vectors for message, _ in refused):
            return None
        gone = {message.key for message, _ in refused}
        for key in gone:
            self._known.pop((key or b"").decode(), None)
        self._metrics.items.labels("failed").inc(len(gone))
        return Work([message for message in work.messages if message.key not in gone], work.offsets)

    def idle(self) -> bool:
        """See :class:`~consumers.stage.Stage`."""
        return not self._encoding and not self._messages and not self._diversion

    def close(self) -> None:
        """See :class:`~consumers.stage.Stage`."""
        self._vectors.close()


def _item_id(key: bytes | None) -> str:
    """The key of a message on ``items``, which must be the item's id: compaction and withdrawals go by it."""
    if not key:
        raise InvalidEvent("key: missing; it must be the item_id", "validate")
    try:
        item_id = key.decode()
    except UnicodeDecodeError:
        raise InvalidEvent("key: not UTF-8; it must be the item_id", "validate") from None
    check_text(item_id, "key")
    return item_id


def _mark(record: bytes) -> bytes:
    """Tells a published record from a changed one, in 16 bytes."""
    return hashlib.blake2b(record, digest_size=16).digest()
