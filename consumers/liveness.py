"""Whether a loop still moves (/livez)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from consumers.metrics import Metrics


class Liveness:
    """Written on the loop's thread, read on any.

    Parameters
    ----------
    stuck_s
        After so long without a beat the loop counts as dead, s.
    clock
        Monotonic seconds.
    """

    def __init__(self, role: str, metrics: Metrics, stuck_s: float, clock: Callable[[], float]) -> None:
        self._role = role
        self._metrics = metrics
        self._patience = stuck_s
        self._clock = clock
        self._moved_at = clock()
        self._failed: str | None = None

    def beat(self) -> None:
        """The loop moves."""
        self._moved_at = self._clock()
        self._metrics.heartbeat.labels(self._role).set_to_current_time()

    @contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """What happens inside may take this long; it ends with a beat."""
        usual, self._patience = self._patience, seconds
        try:
            yield
        finally:
            self._patience = usual
            self.beat()

    def fail(self, error: BaseException) -> None:
        """The loop ends with this."""
        self._failed = f"{type(error).__name__}: {error}"

    def dead(self) -> str | None:
        """Why the loop counts as dead, None while it moves."""
        if self._failed:
            return f"{self._role}: {self._failed}"
        silent = self._clock() - self._moved_at
        return f"{self._role}: no step for {silent:.0f} s" if silent > self._patience else None
