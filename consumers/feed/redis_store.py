"""The newest list of each user in Redis or Valkey, for many replicas: whoever reads a record first writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from consumers.feed.store import Update
from models.errors import ConfigurationError, StrataError

_KEPT_S: Final = 8 * 86_400
"""How long a deleted user's mark stays: a replica that reads the topic anew within this time brings nothing back. The
topic itself forgets him within a day or two (max.compaction.lag.ms, delete.retention.ms)."""
_TIMEOUT_S: Final = 5.0

_PUT: Final = """
local known = redis.call('HMGET', KEYS[1], 'at', 'offset')
if known[1] and tonumber(ARGV[1]) < tonumber(known[1]) then return 0 end
if ARGV[3] == '' then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'at', ARGV[1], 'offset', '-1')
  redis.call('EXPIRE', KEYS[1], ARGV[4])
  return 1
end
if known[2] and tonumber(ARGV[2]) < tonumber(known[2]) then return 0 end
redis.call('HSET', KEYS[1], 'at', ARGV[1], 'offset', ARGV[2], 'list', ARGV[3])
redis.call('PERSIST', KEYS[1])
return 1
"""
"""One user's record, taken or left, in one step: KEYS his key; ARGV produced, offset, list (empty: none), kept."""


class RedisStore:
    """A :class:`~consumers.feed.store.ListStore`: a hash for each user, under ``strata:TOPIC:USER``.

    Parameters
    ----------
    url
        ``redis://[user:password@]host:port/database``, ``rediss://`` for TLS.
    topic
        Of the lists: several deployments can share a server.

    Raises
    ------
    ConfigurationError
        If the package ``redis`` is not installed, or nothing answers.
    """

    def __init__(self, url: str, topic: str) -> None:
        try:
            import redis
            import redis.asyncio
        except ImportError:
            raise ConfigurationError(
                "STRATA_FEED_STORE names a Redis, and no client is installed: pip install 'strata-recommender[redis]'"
            ) from None
        self._failed: tuple[type[Exception], ...] = (redis.RedisError,)
        self._prefix = f"strata:{topic}:"
        self._wrong: str | None = None
        limits: dict[str, Any] = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
        try:
            self._writer: Any = redis.Redis.from_url(url, **limits)
            self._reader: Any = redis.asyncio.Redis.from_url(url, **limits)
            self._writer.ping()
        except (redis.RedisError, ValueError) as error:
            raise ConfigurationError(
                f"STRATA_FEED_STORE: no Redis answers there ({type(error).__name__}); redis://host:port/0 is an address"
            ) from None
        self._put: Any = self._writer.register_script(_PUT)

    def put(self, updates: Sequence[Update]) -> list[Update]:
        """See :class:`~consumers.feed.store.ListStore`.

        Raises
        ------
        StrataError
            If Redis does not answer: the role stops, and reads the topic anew when it is started again.
        """
        pipeline = self._writer.pipeline(transaction=False)
        for update in updates:
            arguments = [update.produced_ms, update.offset, update.value or b"", _KEPT_S]
            self._put(keys=[self._prefix + update.user_id], args=arguments, client=pipeline)
        try:
            taken = pipeline.execute()
        except self._failed as error:
            self._wrong = f"feed: the store does not answer ({type(error).__name__})"
            raise StrataError(f"{self._wrong}; is STRATA_FEED_STORE up, and has it memory left?") from error
        self._wrong = None
        return [update for update, one in zip(updates, taken, strict=True) if one]

    async def get(self, user_id: str) -> bytes | None:
        """See :class:`~consumers.feed.store.ListStore`."""
        try:
            found: bytes | None = await self._reader.hget(self._prefix + user_id, "list")
        except self._failed as error:
            raise StrataError(f"the store of lists does not answer ({type(error).__name__})") from error
        return found

    def unready(self) -> str | None:
        """See :class:`~consumers.feed.store.ListStore`."""
        return self._wrong

    async def close(self) -> None:
        """See :class:`~consumers.feed.store.ListStore`."""
        await self._reader.aclose()
        self._writer.close()
