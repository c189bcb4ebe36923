"""When interests move faster than the layers follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from river.drift import ADWIN

_LONGEST: Final = 4_096
_KEPT: Final = 2_048


class DriftAlarm:
    """River's ADWIN on the quantisation error of blocks of vectors; only a rise is drift.

    The mean of a block, not each vector's error: per vector ADWIN cries wolf (103 times in 100,000, design §6). Its
    logarithm: ADWIN takes values to lie in a range of one, so that a rise by a third is as much in every space.

    What ADWIN has been given since it last began is kept, so that it can be built again after a restart without
    reading its insides; when that grows long, it begins again with the newer half.

    Parameters
    ----------
    delta
        ADWIN's: lower is deafer.

    Attributes
    ----------
    errors : list[float]
        What the present ADWIN has been given.
    """

    def __init__(self, delta: float = 0.002, errors: Sequence[float] = ()) -> None:
        self.delta = delta
        self._begin(errors)

    def update(self, error: float) -> bool:
        """Take in the logarithm of a block's mean error; True when errors have risen for good."""
        before = self._adwin.estimation
        self.errors.append(error)
        self._adwin.update(error)
        if self._adwin.drift_detected:
            risen: bool = error > before
            self._begin([error])
            return risen
        if len(self.errors) == _LONGEST:
            self._begin(self.errors[-_KEPT:])
        return False

    def _begin(self, errors: Sequence[float]) -> None:
        self._adwin = ADWIN(delta=self.delta, clock=4, grace_period=16)
        self.errors = []
        for error in errors:
            self.errors.append(error)
            self._adwin.update(error)
            if self._adwin.drift_detected:  # known already; go on from here as `update` did
                self._adwin, self.errors = ADWIN(delta=self.delta, clock=4, grace_period=16), [error]
                self._adwin.update(error)
