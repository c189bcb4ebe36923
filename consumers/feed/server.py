"""uvicorn on a thread of its own."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Callable
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from models.errors import ConfigurationError, StrataError

log = logging.getLogger(__name__)

_CLOSE_S: Final = 3
_SPARE: Final = 1_000
"""Connections beside the streams."""


class Server:
    """Listens from the start; answers between :meth:`start` and :meth:`close`.

    Parameters
    ----------
    port
        0: any free one (see :attr:`url`).
    streams
        Pages that may wait at a time: connections beyond these and a few more are refused.
    before_close
        Called on the event loop: open streams must end for the server to.

    Raises
    ------
    ConfigurationError
        If the address cannot be listened on.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, streams: int, before_close: Callable[[], None]) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=2048)
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be listened on ({error.strerror})"
            raise ConfigurationError(
                f"the address {host}:{port} for the feed {why}: name another one (STRATA_FEED_HOST, STRATA_FEED_PORT;"
                " port 0 = any free one)"
            ) from error
        # inherited by each connection; asyncio sets it only where the socket names its protocol, and this one does not:
        # a body then waits 40 ms for the acknowledgement of its head
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._socket.getsockname()[1]}"
        self._before_close = before_close
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
                ws="none",
                timeout_keep_alive=15,
                timeout_graceful_shutdown=_CLOSE_S,
                limit_concurrency=streams + _SPARE,
                h11_max_incomplete_event_size=64 * 1024,
            )
        )
        self._server.before_close = before_close
        self._thread = threading.Thread(target=self._run, name="feed-http", daemon=True)
        self._failure: BaseException | None = None

    def start(self, timeout_s: float = 30.0) -> None:
        """Answer from now on."""
        self._thread.start()
        if not self._server.up.wait(timeout_s) or self._failure is not None:
            raise StrataError(f"the feed's HTTP server did not start: {self._failure}")

    def _run(self) -> None:
        try:
            self._server.run([self._socket])
        except BaseException as error:
            self._failure = error
            log.exception("the feed's HTTP server failed")
        finally:
            self._server.up.set()

    def dead(self) -> str | None:
        """Why nothing answers, None while it does."""
        return None if self._thread.is_alive() else "feed: the HTTP server has ended"

    def close(self) -> None:
        """Answer what has been asked, let the streams go, and stop."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S + 5)
        self._socket.close()


class _Uvicorn(uvicorn.Server):
    """Tells when it is up, and says good-bye to streams before it waits for them."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()
        self.before_close: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.before_close()
        await super().shutdown(sockets)
