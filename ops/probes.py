"""Metrics and health over HTTP: ``/metrics``, ``/livez``, ``/readyz`` on one address, by default on loopback."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from models.errors import ConfigurationError

log = logging.getLogger(__name__)

Check = Callable[[], str | None]
"""None when all is well, or else what is wrong (shown to whoever asks: no secrets, no ids). Called on HTTP threads."""

_TEXT: Final = "text/plain; charset=utf-8"


class Probes:
    """The HTTP address of a process.

    Parameters
    ----------
    registry
        What ``/metrics`` shows.
    live
        Checks of ``/livez``: 200 while all return None, 503 with the reasons otherwise.
    ready
        Checks of ``/readyz``; what is not live is not ready either.
    port
        0 = any free one (see :attr:`url`).

    Raises
    ------
    ConfigurationError
        If the address cannot be listened on.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        live: Iterable[Check] = (),
        ready: Iterable[Check] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        on_ready: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._registry = registry
        self._live = list(live)
        self._ready = list(ready)
        self._on_ready = on_ready
        try:
            self._server = _Server((host, port), self)
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be listened on ({error.strerror})"
            raise ConfigurationError(
                f"the address {host}:{port} for metrics and probes {why}: name another one (STRATA_HTTP_HOST,"
                " STRATA_HTTP_PORT; port 0 = any free one)"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="probes", daemon=True
        )

    @property
    def url(self) -> str:
        """``http://host:port``."""
        host, port = self._server.server_address[:2]
        return f"http://{host if isinstance(host, str) else host.decode()}:{port}"

    def start(self) -> None:
        """Answer from now on, on threads of its own."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def livez(self) -> list[str]:
        """What is wrong with the loops."""
        return _wrong(self._live)

    def readyz(self) -> list[str]:
        """What keeps the process from being ready."""
        wrong = _wrong(self._live) + _wrong(self._ready)
        self._on_ready(not wrong)
        return wrong

    def answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a path."""
        match path.partition("?")[0]:
            case "/metrics":
                self.readyz()  # strata_ready is as fresh as the scrape
                encoder, content_type = choose_encoder(accept)
                return 200, content_type, encoder(self._registry)
            case "/livez":
                return _health(self.livez())
            case "/readyz":
                return _health(self.readyz())
            case _:
                return 404, _TEXT, b"there are /metrics, /livez and /readyz\n"


def _wrong(checks: Iterable[Check]) -> list[str]:
    return [reason for check in checks if (reason := check()) is not None]


def _health(wrong: list[str]) -> tuple[int, str, bytes]:
    return (503, _TEXT, "\n".join([*wrong, ""]).encode()) if wrong else (200, _TEXT, b"ok\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], probes: Probes) -> None:
        self.probes = probes
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server_version = "Strata"
    sys_version = ""
    timeout = 10
    server: _Server

    def do_GET(self) -> None:
        try:
            status, content_type, body = self.server.probes.answer(self.path, self.headers.get("Accept", ""))
        except Exception:
            log.exception("a probe failed")
            status, content_type, body = 500, _TEXT, b"the probe itself failed; see the log\n"
        self._send(status, content_type, body)

    do_HEAD = do_GET  # noqa: N815

    def _refuse(self) -> None:
        self._send(405, _TEXT, b"nothing can be changed here: GET and HEAD\n", Allow="GET, HEAD")

    # to others the base class answers 501
    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815

    def _send(self, status: int, content_type: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        log.debug("%s", (format % args).encode("unicode_escape").decode())  # a path may hold a terminal's commands
