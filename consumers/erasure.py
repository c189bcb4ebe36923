"""The erasure role: deletes an erased user's dead letters, and says when nothing of him is left.

The updaters delete profiles and lists themselves; this role watches until they have, and gives the receipt. An order's
offset is committed with its receipt, so none is forgotten over a restart.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from consumers.client import Partition, Record
from consumers.diversion import Diversion
from consumers.erased import Erased
from consumers.letter_index import LetterIndex
from consumers.metrics import Metrics
from consumers.stage import Work
from consumers.tables import OpenTables
from consumers.tombstones import TombstoneWatch, still_there
from models.erasures import Erasure, decode_erasure, decode_key
from models.events import Limits
from models.pseudonyms import Pseudonyms
from producers.publisher import Message
from producers.topics import Topics

log = logging.getLogger(__name__)

_EVERY_S: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class ErasureConfig:
    """How receipts are given."""

    receipt_s: float = 60.0
    """Time after which an erasure without its proof is reported, s; it is waited for all the same."""
    tables_timeout_s: float = 300.0
    """How long the tables may take to be read at a start, s."""
    limits: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class Case:
    """An order that has no receipt yet; ``stored`` is the name that its user is stored by."""

    record: Record
    erasure: Erasure
    stored: str
    since: float
    reported: bool = False


class ErasureRole:
    """A :class:`~consumers.stage.Stage` in a consumer group on ``erasures``.

    Parameters
    ----------
    open_tables
        Makes the readers of ``erasures``, ``dead-letters``, ``profiles`` and ``recommendations``.
    pseudonyms
        The names that users are stored by.
    wall, clock
        The time, s since the epoch; monotonic, s, the loop's.
    """

    def __init__(
        self,
        open_tables: OpenTables,
        topics: Topics,
        diversion: Diversion,
        metrics: Metrics,
        pseudonyms: Pseudonyms,
        config: ErasureConfig = ErasureConfig(),
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topics = topics
        self._diversion = diversion
        self._metrics = metrics
        self._pseudonyms = pseudonyms
        self._config = config
        self._wall = wall
        self._clock = clock
        self._erased = Erased(open_tables, topics.erasures, pseudonyms, config.limits, wall)
        self._index = LetterIndex(topics)
        self._letters = open_tables({topics.dead_letters: self._letter})
        self._watch = TombstoneWatch(open_tables, topics)
        self._cases: dict[tuple[int, int], Case] = {}
        self._next: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._doomed: dict[bytes, None] = {}
        self._deleted: Counter[str] = Counter()  # dead letters by user, until his receipt says so
        self._next_look = 0.0

    def assigned(self, partitions: Iterable[Partition]) -> None:
        """Read all erasures and all dead letters."""
        self._erased.catch_up(self._config.tables_timeout_s)
        self._letters.catch_up(self._config.tables_timeout_s)
        for erasure in self._erased.all():  # of what came before the order was read, and what a crash left over
            self._doom(erasure.user_id)

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Their orders are another's now."""
        partitions = list(partitions)
        gone = {number for _, number in partitions}
        self._cases = {where: case for where, case in self._cases.items() if where[0] not in gone}
        for number in gone:
            self._next.pop(number, None)
            self._committed.pop(number, None)
        self._diversion.forget(partitions)

    def submit(self, records: Sequence[Record]) -> int:
        """See :class:`~consumers.stage.Stage`."""
        for record in records:
            try:
                if record.value is None:
                    self._withdraw(decode_key(record.key, self._config.limits))
                else:
                    self._open(record)
            except Exception as error:
                self._diversion.divert(record, error)
            else:
                self._diversion.passed()
            self._committed.setdefault(record.partition, record.offset)
            self._next[record.partition] = record.offset + 1
        self._expect()
        return len(records)

    def _open(self, record: Record) -> None:
        erasure = decode_erasure(record.key, record.value, record.timestamp, self._config.limits)
        case = Case(record, erasure, self._pseudonyms(erasure.user_id), self._clock())
        self._cases[record.partition, record.offset] = case
        self._metrics.erasures.inc()

    def _withdraw(self, user_id: str) -> None:
        """An order that was taken back needs no receipt."""
        self._cases = {where: case for where, case in self._cases.items() if case.erasure.user_id != user_id}

    def _expect(self) -> None:
        if not self._cases:
            self._watch.expect({}, 0)
            return
        users: dict[str, int] = {}
        for case in self._cases.values():
            users[case.stored] = max(case.erasure.until, users.get(case.stored, 0))
        self._watch.expect(users, min(case.record.timestamp for case in self._cases.values()))

    def poll(self, now: float) -> Work | None:
        """See :class:`~consumers.stage.Stage`."""
        if now < self._next_look:
            return None
        self._next_look = now + _EVERY_S
        self._letters.poll()
        self._watch.poll()
        for erasure in self._erased.follow(now):
            self._doom(erasure.user_id)
        if not self._doomed:  # those of the last Work are deleted; none waits
            self._give_receipts()
        messages = [Message(self._topics.dead_letters, key, None) for key in self._doomed]
        self._doomed = {}
        done = {(self._topics.erasures, n): self._settled(n) for n in self._next}
        messages += self._diversion.take(done)
        offsets = {}
        for partition, offset in done.items():
            if offset > self._committed[partition[1]]:
                offsets[partition] = self._committed[partition[1]] = offset
        return Work(messages, offsets) if messages or offsets else None

    def _settled(self, number: int) -> int:
        return min((offset for n, offset in self._cases if n == number), default=self._next[number])

    def _give_receipts(self) -> None:
        for where, case in list(self._cases.items()):
            missing, overdue = self._watch.missing(case.stored), self._clock() - case.since > self._config.receipt_s
            if not missing and self._knows(case):
                del self._cases[where]
                seconds = max(0.0, self._wall() - case.record.timestamp / 1000)
                self._metrics.receipts.inc()
                self._metrics.erasure_seconds.observe(seconds)
                letters = sum(self._deleted.pop(name, 0) for name in {case.stored, case.erasure.user_id})
                told = {"request_id": case.erasure.request_id, "dead_letters": letters, "seconds": round(seconds, 1)}
                log.info("erasure: receipt: no profile, no list, no dead letter of the user is left", extra=told)
                if not self._cases:
                    self._watch.expect({}, 0)
            elif overdue and not case.reported:
                case.reported = True
                self._metrics.erasures_overdue.inc()
                log.error(
                    "erasure: not done after %(seconds).0f s: no tombstones in %(missing)s; does an updater run for"
                    " these partitions?",
                    {"seconds": self._config.receipt_s, "missing": still_there(missing)},
                    extra={"request_id": case.erasure.request_id},
                )

    def _knows(self, case: Case) -> bool:
        """Whether the table has the order too: then its dead letters have been looked for."""
        return self._erased.until(case.stored) >= min(case.erasure.until, int(self._wall() * 1000))

    def _letter(self, record: Record) -> None:
        for user_id in self._index.take(record):
            self._doom(user_id)

    def _doom(self, user_id: str) -> None:
        """Delete what is there of a user's letters of before his erasure."""
        if not (until := self._erased.until(user_id)):
            return
        new = [key for key in self._index.of(user_id, until) if key not in self._doomed]
        self._doomed.update(dict.fromkeys(new))
        self._deleted[user_id] += len(new)
        self._metrics.letters_erased.inc(len(new))

    def published(self, work: Work) -> None:
        """See :class:`~consumers.stage.Stage`."""

    def refused(self, work: Work, refused: Sequence[tuple[Message, str]]) -> Work | None:
        """See :class:`~consumers.stage.Stage`. None of these messages can be done without."""
        return None

    def idle(self) -> bool:
        """See :class:`~consumers.stage.Stage`. An order that waits for its proof is taken up again after a restart."""
        return not self._doomed and not self._diversion

    def close(self) -> None:
        """See :class:`~consumers.stage.Stage`."""
        self._erased.close()
        self._letters.close()
        self._watch.close()
