"""What can go wrong with the broker, one branch of the tree of ``models/errors.py``.

::

    BrokerError                  the broker cannot do what is needed
    ├── BrokerUnavailable        nothing usable answers at that address
    │   └── AccessRefused        … or it answers, but not to us: certificate, login or protocol do not fit
    ├── TopicMissing             a topic is not there and may not be created
    ├── TopicMismatch            a topic is there with another shape
    ├── PublishFailed            messages that were not acknowledged (``refused`` names those that never will be)
    ├── GroupJoinTimeout         the consumer group did not let this process in
    ├── CommitFailed             offsets were not committed, after everything was acknowledged
    │   └── CommitRefused        … because the group moved on: the partitions belong to somebody else, or soon will
    ├── TransactionAborted       work that did not take effect, or nobody knows whether it did: begin again
    ├── TransactionsUnsupported  exactly-once was asked of a broker whose transactions do not hold
    ├── LogRolledBack            the log ends before what is already applied (§ rollback guard)
    ├── OffsetsExpired           the log begins after what is still to be read
    ├── CatchUpTimeout           a table could not be read to its end in time
    └── DeadLetterLimitExceeded  too much is diverted: a bad deploy, not bad messages
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from models.errors import StrataError

if TYPE_CHECKING:
    from producers.sender import Message


class BrokerError(StrataError):
    """The broker cannot do what is needed."""


class BrokerUnavailable(BrokerError):
    """Nothing usable answers at the broker's address. The message gives the address and the likely causes."""


class AccessRefused(BrokerUnavailable):
    """A broker is there, but not for us as we come: trying again does not help. The message says which step failed."""


class TopicMissing(BrokerError):
    """A topic does not exist and may not be created. The message holds the command that creates it."""


class TopicMismatch(BrokerError):
    """A topic exists with a number of partitions that does not fit."""


class PublishFailed(BrokerError):
    """Some messages were not acknowledged.

    Parameters
    ----------
    reason
        What happened, without payload.
    refused
        Messages that will never be accepted as they are (too large, for one), each with the reason. Empty when the
        failure is of the moment.
    retriable
        True: the same messages may be published again (they may come twice, which readers allow for). False: those
        in ``refused`` must be left out first. Of the others each may or may not have been published; in a transaction
        none has become visible.
    """

    def __init__(self, reason: str, *, refused: Sequence[tuple[Message, str]] = (), retriable: bool = False) -> None:
        super().__init__(reason)
        self.refused = tuple(refused)
        self.retriable = retriable


class GroupJoinTimeout(BrokerError):
    """The consumer group did not complete a join in time."""


class CommitFailed(BrokerError):
    """Offsets could not be committed. Everything below them has been published, so they may be committed later."""


class CommitRefused(CommitFailed):
    """The consumer group moved on before the commit: whoever owns the partitions now does their work again."""


class TransactionAborted(BrokerError):
    """A transaction was not committed, as far as is known: the group or another producer moved on, or no answer came.

    Whoever owns the partitions now restores what *is* there and begins again at the committed offsets.
    """


class TransactionsUnsupported(BrokerError):
    """Exactly-once delivery was asked for, but the broker's transactions do not hold. The message says what failed."""


class LogRolledBack(BrokerError):
    """A log ends before an offset that has already been applied: the broker lost its tail, or is a new one."""


class OffsetsExpired(BrokerError):
    """A log begins after the offset to read next: retention deleted what was still to be read."""


class CatchUpTimeout(BrokerError):
    """A table could not be read up to its end in time."""


class DeadLetterLimitExceeded(BrokerError):
    """So many messages are diverted that the fault is probably ours."""
