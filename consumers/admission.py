"""The updater's door: which clicks come in, by which name and time their users' profiles know them."""

from __future__ import annotations

import msgspec

from consumers.client import Record
from consumers.erased import Erased
from consumers.metrics import Metrics
from consumers.shard import Shard
from models.events import Click, Limits, decode_click
from models.pseudonyms import Pseudonyms


class Admission:
    """Decodes clicks; beyond it a user is known by his pseudonym alone.

    Parameters
    ----------
    erased
        Who asked to be forgotten.
    """

    def __init__(self, erased: Erased, pseudonyms: Pseudonyms, limits: Limits, metrics: Metrics) -> None:
        self._erased = erased
        self._pseudonyms = pseudonyms
        self._limits = limits
        self._metrics = metrics

    def admit(self, record: Record, shard: Shard, wall_ms: int) -> Click | None:
        """The click as it counts; None if its user has had it erased.

        Parameters
        ----------
        wall_ms
            The time: a click that is stamped later counts as of now.

        Raises
        ------
        InvalidEvent
            If it is none.
        """
        click = decode_click(record.value, record.headers, self._limits)
        user_id, ts = self._pseudonyms(click.user_id), click.ts
        if until := self._erased.until(user_id):
            # one that is stamped ahead happened, at the latest, when it was produced
            if min(ts, record.timestamp if record.timestamp > 0 else ts) <= until:
                self._metrics.clicks_erased.inc()
                return None
            profile = shard.profile(user_id)
            profile.erased = max(profile.erased, until)  # he starts fresh
        if ts > wall_ms:  # a clock that runs ahead must not make an item unseen, or a list fresher than now
            if ts > wall_ms + self._limits.future_ms:
                self._metrics.clamped.inc()
            ts = wall_ms
        if user_id is click.user_id and ts == click.ts:
            return click
        return msgspec.structs.replace(click, user_id=user_id, ts=ts)
