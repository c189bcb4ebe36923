"""How the updater works: its sizes and times."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.events import Limits
from models.profile import ProfileLimits
from models.ranker_learning import LearningConfig


@dataclass(frozen=True, kw_only=True)
class UpdaterConfig:
    """How the updater works."""

    list_length: int = 10
    """Items in a list."""
    encoded_clicks: int = 8
    """Newest clicks whose texts make the input of BERT."""
    deadline_s: float = 0.5
    """How long a list may wait for the encoder, s; then it goes out from cached item vectors."""
    batch_users: int = 256
    """Lists made and published at a time, at most."""
    publish_s: float = 0.02
    """Least time between two publications, s: a publication costs some milliseconds whatever its size."""
    owed_users: int = 20_000
    """Users who may wait for a list at a time; beyond it, reading pauses."""
    in_flight_bytes: int = 64_000_000
    """Bytes of clicks that may wait for their list or dead letter; beyond it, reading pauses."""
    hot_profiles: int = 20_000
    """Profiles kept as objects, of each partition; the others are kept as bytes."""
    atomic: bool = False
    """A profile and its list become visible together, in a transaction: a click that is read again then owes nothing.
    Otherwise its list goes out again, because a crash may have come between the two."""
    retention_s: float | None = None
    """How long after his last click a user is kept, s; None: for ever."""
    tables_timeout_s: float = 300.0
    """How long the tables may take to be read at a start, s."""
    learning: LearningConfig = field(default_factory=LearningConfig)
    """Which clicks the ranker learns from."""
    profile: ProfileLimits = field(default_factory=ProfileLimits)
    limits: Limits = field(default_factory=Limits)
