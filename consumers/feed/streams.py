"""Server-sent events, bounded: a page that takes nothing is let go, and holds no more than its buffer until then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Final

from starlette.types import Receive, Scope, Send

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]
HEARTBEAT: Final = b": still here\n\n"
RETRY: Final = b"retry: 2000\n\n"


def event(kind: str, data: bytes, event_id: str = "") -> bytes:
    """One event. ``data`` is JSON, so it has no line breaks of its own."""
    named = f"id: {event_id}\n" if event_id else ""
    return f"event: {kind}\n{named}data: ".encode() + data + b"\n\n"


class EventStream:
    """An ASGI response that sends what an iterator yields, until that ends or the page is gone.

    Parameters
    ----------
    stalled_s
        How long the page may take nothing, s.
    """

    def __init__(self, events: AsyncIterator[bytes], stalled_s: float) -> None:
        self._events = events
        self._stalled_s = stalled_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end."""
        gone = asyncio.create_task(self._gone(receive))
        sending = asyncio.create_task(self._send(send))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, sending):
                task.cancel()
            await asyncio.gather(gone, sending, return_exceptions=True)

    async def _gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events) as events:  # type: ignore[type-var]
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            with suppress(TimeoutError):
                async for chunk in events:
                    async with asyncio.timeout(self._stalled_s):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                async with asyncio.timeout(1):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
