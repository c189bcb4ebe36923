"""The one thread that encodes, and the bounded, coalescing queue before it.

A torch forward takes all cores and releases the GIL, so one thread encodes for all roles of a process while their
loops go on polling. Each role has an :class:`Outlet`; nothing here blocks its caller.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import EncoderDied

Tokens = NDArray[np.int32]

_STATS_KEPT: Final = 10_000  # batches; a process without metrics never reads them


class Encodes(Protocol):
    """What the queue needs of an :class:`~models.encoder.Encoder`."""

    @property
    def token_budget(self) -> int:
        """Tokens that one run of the model may hold."""

    def encode(self, inputs: Sequence[Tokens], /) -> NDArray[np.float32]:
        """float32 [inputs, dimension]."""


class Encoded(NamedTuple):
    """A result: the vector, or the error of the one input that cannot be encoded."""

    key: Hashable
    tag: object
    """What came with the tokens that this vector is of."""
    vector: NDArray[np.float32] | None
    error: Exception | None


class BatchStats(NamedTuple):
    """One batch, for the metrics."""

    inputs: dict[str, int]
    """How many of each outlet."""
    tokens: int
    seconds: float
    """In the encoder."""
    waited: float
    """How long the batch's oldest input had waited, s."""
    retries: int
    """Runs of the model beyond the first, after an exception in a larger one."""
    failed: int
    """Inputs that came back with an error."""


@dataclass(slots=True, eq=False)
class _Entry:
    key: Hashable
    tokens: Tokens
    tag: object
    since: float
    outlet: Outlet
    later: bool
    discarded: bool = False


class Outlet:
    """One role's side of the queue. All its methods return at once; made by :meth:`EncodeQueue.outlet`."""

    def __init__(
        self,
        queue: EncodeQueue,
        name: str,
        capacity: int,
        share: float,
        on_ready: Callable[[], None] | None,
        newest_first: bool,
    ) -> None:
        self.name = name
        self.capacity = capacity
        self.share = share
        self.newest_first = newest_first
        self._queue = queue
        self._on_ready = on_ready
        self._waiting: dict[Hashable, _Entry] = {}  # in order of arrival
        self._in_flight: list[_Entry] = []
        self._ready: list[Encoded] = []

    @property
    def pending(self) -> int:
        """Inputs submitted whose result was not drained yet."""
        with self._queue._lock:
            return self._held

    @property
    def _held(self) -> int:
        return len(self._waiting) + sum(not e.discarded for e in self._in_flight) + len(self._ready)

    def submit(self, key: Hashable, tokens: Tokens, tag: object = None, *, later: bool = False) -> bool:
        """Ask for a vector; False = full, try again after a :meth:`drain`.

        A key that is already waiting is *replaced*: a user with five clicks in a batch is encoded once. One that is
        in flight is not touched; the key then comes back twice, the older tag first.

        Parameters
        ----------
        tokens
            int32 ids of one input, special tokens included. Not copied.
        tag
            Comes back with the vector; the offset that the tokens contain, say.
        later
            Only when nothing else of this outlet waits.
        """
        queue = self._queue
        with queue._wake:
            waiting = self._waiting.get(key)
            if waiting is not None:
                waiting.tokens, waiting.tag, waiting.later = tokens, tag, waiting.later and later
                if self.newest_first:
                    self._waiting[key] = self._waiting.pop(key)
                return True
            if self._held >= self.capacity:
                return False
            self._waiting[key] = _Entry(key, tokens, tag, queue._clock(), self, later)
            queue._wake.notify()
            return True

    def drain(self) -> list[Encoded]:
        """The results since the last call, in the order in which they were taken up.

        Raises
        ------
        EncoderDied, RuntimeError
            If the encoder's process or thread has died: nothing will come any more.
        """
        with self._queue._lock:
            if isinstance(self._queue.failure, EncoderDied):
                raise EncoderDied(str(self._queue.failure)) from self._queue.failure
            if self._queue.failure is not None:
                raise RuntimeError(f"the encoder has died: {self._queue.failure}") from self._queue.failure
            ready, self._ready = self._ready, []
            return ready

    def withdraw(self, key: Hashable) -> bool:
        """Take a key out of the line; False if it does not wait there, but is being encoded, say."""
        with self._queue._lock:
            return self._waiting.pop(key, None) is not None

    def _in_order(self) -> list[_Entry]:
        waiting = self._waiting.values()
        return sorted(reversed(waiting) if self.newest_first else waiting, key=lambda entry: entry.later)

    def discard(self, keys: Iterable[Hashable]) -> None:
        """Forget these keys, waiting, in flight or ready: no later :meth:`drain` returns what was submitted before."""
        self.discard_if(set(keys).__contains__)

    def discard_if(self, gone: Callable[[Hashable], bool]) -> None:
        """:meth:`discard` every key for which ``gone`` is true."""
        with self._queue._lock:
            for key in [key for key in self._waiting if gone(key)]:
                del self._waiting[key]
            for entry in self._in_flight:
                entry.discarded = entry.discarded or gone(entry.key)
            self._ready = [encoded for encoded in self._ready if not gone(encoded.key)]


class EncodeQueue:
    """Batches what the outlets submit and encodes it in one thread.

    Batches form by themselves: while one is being encoded the next gathers, up to the encoder's token budget. An idle
    encoder starts at once, or, with ``linger``, once the budget is full or the oldest input has waited that long.

    Where several outlets wait, the one with the largest share goes first and the others get their share of the
    budget, neither less nor more: users are not held up by a catalogue, and the catalogue does not starve.

    An exception in a batch halves it, down to the one input that causes it; only that one comes back with an error.

    Parameters
    ----------
    encoder
        Used by the queue's thread alone from now on.
    linger
        s; see above.
    clock
        Monotonic, s.

    Attributes
    ----------
    failure : BaseException | None
        What ended the thread, if something did.
    """

    def __init__(self, encoder: Encodes, *, linger: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.failure: BaseException | None = None
        self._encoder = encoder
        self._linger = linger
        self._clock = clock
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._outlets: list[Outlet] = []
        self._stats: deque[BatchStats] = deque(maxlen=_STATS_KEPT)
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def outlets(self) -> tuple[Outlet, ...]:
        """All outlets, the one with the largest share first."""
        with self._lock:
            return tuple(self._outlets)

    def outlet(
        self,
        name: str,
        *,
        capacity: int,
        share: float,
        on_ready: Callable[[], None] | None = None,
        newest_first: bool = False,
    ) -> Outlet:
        """A role's side of the queue.

        Parameters
        ----------
        capacity
            Most inputs held for it at a time, drained or not; beyond it :meth:`Outlet.submit` says no.
        share
            Its weight against the other outlets'; the largest goes first.
        on_ready
            Called on the encoder's thread when results are ready; must be quick.
        newest_first
            For results that are of use for a while only, in batches of half the budget, which take half as long. Under
            more load than the encoder can bear, a line in order of arrival makes all of them late; so most are in
            time, and the others are known to be late.
        """
        if capacity < 1 or not share > 0:
            raise ValueError(f"outlet {name}: capacity {capacity} and share {share} must be above 0")
        outlet = Outlet(self, name, capacity, share, on_ready, newest_first)
        with self._lock:
            self._outlets.append(outlet)
            self._outlets.sort(key=lambda o: -o.share)
        return outlet

    def start(self) -> None:
        """Start the thread."""
        if self._thread is not None:
            raise RuntimeError("the queue was started before")
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    def close(self, timeout: float = 30.0) -> bool:
        """Stop after the batch in hand, for which this waits; what still waits is left. False if it took too long."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def take_stats(self) -> list[BatchStats]:
        """The batches since the last call (the last 10,000 at most)."""
        with self._lock:
            stats = list(self._stats)
            self._stats.clear()
            return stats

    def step(self) -> int:
        """Encode one batch of what waits now, on the calling thread; the inputs in it, 0 if nothing waits."""
        with self._lock:
            entries = self._fill()
        if not entries:
            return 0
        start = self._clock()
        encoded, retries = self._encode(entries)
        seconds = self._clock() - start
        with self._lock:
            for entry, result in zip(entries, encoded, strict=True):
                entry.outlet._in_flight.remove(entry)
                if not entry.discarded:
                    entry.outlet._ready.append(result)
            self._stats.append(
                BatchStats(
                    inputs=dict(Counter(entry.outlet.name for entry in entries)),
                    tokens=sum(len(entry.tokens) for entry in entries),
                    seconds=seconds,
                    waited=start - min(entry.since for entry in entries),
                    retries=retries,
                    failed=sum(result.error is not None for result in encoded),
                )
            )
            notified = {id(entry.outlet): entry.outlet for entry in entries}
        for outlet in notified.values():
            if outlet._on_ready is not None:
                outlet._on_ready()
        return len(entries)

    def _run(self) -> None:
        try:
            while self._wait():
                self.step()
        except BaseException as error:  # drain() tells the roles; a dead thread nobody knows of would be a silent stop
            with self._lock:
                self.failure = error
                outlets = list(self._outlets)
            for outlet in outlets:
                if outlet._on_ready is not None:
                    outlet._on_ready()

    def _wait(self) -> bool:
        """Until there is a batch to encode; False once the queue is closed."""
        with self._wake:
            while not self._stopping:
                due = self._due()
                if due is not None and due <= 0:
                    return True
                self._wake.wait(due)
            return False

    def _due(self) -> float | None:
        """Seconds until what waits is to be encoded, None if nothing waits."""
        if not any(outlet._waiting for outlet in self._outlets):
            return None
        if not self._linger:
            return 0.0
        waiting = [entry for outlet in self._outlets for entry in outlet._waiting.values()]
        if sum(len(entry.tokens) for entry in waiting) >= self._encoder.token_budget:
            return 0.0
        return min(entry.since for entry in waiting) + self._linger - self._clock()

    def _fill(self) -> list[_Entry]:
        """Move the next batch from waiting to in flight: the lesser outlets' shares, then the greatest's rest."""
        outlets = [outlet for outlet in self._outlets if outlet._waiting]
        shares = sum(outlet.share for outlet in outlets)
        budget = self._encoder.token_budget
        if any(outlet.newest_first for outlet in outlets):
            budget //= 2  # what is wanted soon is better read in short batches, though long ones are quicker in sum
        batch: list[_Entry] = []
        left = float(budget)
        for outlet in reversed(outlets):
            quota = left if outlet is outlets[0] else budget * outlet.share / shares
            taken: list[_Entry] = []
            tokens = 0
            for entry in outlet._in_order():
                tokens += len(entry.tokens)
                if taken and tokens > quota:
                    break
                taken.append(entry)
            for entry in taken:
                del outlet._waiting[entry.key]
            outlet._in_flight += taken
            batch += taken
            left -= sum(len(entry.tokens) for entry in taken)
        return batch

    def _encode(self, entries: Sequence[_Entry]) -> tuple[list[Encoded], int]:
        """The results in order, and the runs beyond the first."""
        try:
            vectors = self._encoder.encode([entry.tokens for entry in entries])
        except EncoderDied:
            raise  # nothing will be encoded any more, in halves or whole
        except Exception as error:
            if len(entries) == 1:
                return [Encoded(entries[0].key, entries[0].tag, None, error)], 0
            half = len(entries) // 2
            first, retries_first = self._encode(entries[:half])
            second, retries_second = self._encode(entries[half:])
            return first + second, retries_first + retries_second + 2
        return [Encoded(e.key, e.tag, vector, None) for e, vector in zip(entries, vectors, strict=True)], 0
