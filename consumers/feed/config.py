"""The limits of the feed."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.events import Limits


@dataclass(frozen=True, kw_only=True)
class FeedConfig:
    """What is allowed, and how much of it."""

    token: str | None = field(default=None, repr=False)
    """What an erasure over HTTP must bring; None: there are none."""
    clicks: bool = False
    """Whether clicks and impressions are taken over HTTP."""
    page: bool = False
    """Whether the page is served, with the ids of the users who are active."""
    origins: frozenset[str] = frozenset()
    """Origins of pages elsewhere whose scripts may ask (CORS); ``*``: all."""
    loopback: bool = True
    """Only asked by names of this machine: a page elsewhere whose name comes to point here is refused."""
    streams: int = 2_000
    """Pages that wait for lists at a time."""
    streams_per_client: int = 100
    """The same, of one address."""
    buffer: int = 4
    """Lists that wait for a page that is slower than they come; the oldest is dropped, since a newer replaces it."""
    heartbeat_s: float = 15.0
    """Longest silence of a stream, s."""
    stalled_s: float = 30.0
    """A page that takes nothing for so long is let go, s."""
    requests_per_second: float = 200.0
    """Requests of one address, on average; twice as many at once. 0: any number."""
    clicks_per_second: float = 20.0
    """Clicks of one address over HTTP, in the same way; and impressions, counted by themselves."""
    waiting: int = 1_000
    """Clicks, impressions and erasures that wait for Kafka's acknowledgement."""
    longest_list: int = 100
    """Items of an answer at most."""
    excluded: int = 500
    """Items that a request may exclude."""
    limits: Limits = field(default_factory=Limits)
