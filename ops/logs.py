"""One log for all rooms: they use the standard library's loggers, and structlog renders what they say.

A line's facts are its named arguments, ``log.info("%(profiles)d profiles restored", {"profiles": 3})``: a person reads
them in the text, a machine has them as fields of JSON, beside the text's ``template``, by which like ones are found.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final, Literal

import structlog

from ops.roles import ROLES

_QUIET = ("kafka", "transformers", "httpx", "faiss.loader")
"""Libraries whose everyday news would drown ours. At debug level Kafka's client writes passwords and tokens, too."""

_AGAIN_S: Final = 10.0
"""Until a line of Kafka's client is told again."""


def configure(level: str = "info", format: Literal["auto", "console", "json"] = "auto", stream: Any = None) -> None:  # noqa: A002
    """Log to standard error from now on.

    Parameters
    ----------
    level
        Least severity.
    format
        ``console`` for people, ``json`` a line for machines; ``auto`` by whether standard error is a terminal.
    """
    stream = stream or sys.stderr
    console = format == "console" or (format == "auto" and stream.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _facts(shown=not console),
        _role,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
    ]
    last: list[Any] = (
        # a plain trace: a pretty one shows local variables, and those are users and what they did
        [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(stream)
    handler.addFilter(_WorthTelling())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            pass_foreign_args=True,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


def _facts(*, shown: bool) -> structlog.typing.Processor:
    """Named arguments become fields."""

    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        named = event.pop("positional_args", None)
        if shown and isinstance(named, dict):
            event.setdefault("template", event["_record"].msg)
            for name, value in named.items():
                event.setdefault(name, value if isinstance(value, (str, int, float, list, dict)) else str(value))
        return event

    return add


def _role(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Whose line it is: each role has a thread of its name."""
    record = event.get("_record")
    if record is not None and record.threadName in ROLES:
        event.setdefault("role", record.threadName)
    return event


class _WorthTelling(logging.Filter):
    """What Kafka's client says, without its noise.

    Its own close is an error to it: it cancels what it was about to do, on one thread while another may be in the
    midst of it. And while a broker is away it says so for every attempt of every client, hundreds of lines a second:
    each kind of line is told once in ten seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is told."""
        if not record.name.startswith("kafka"):
            return True
        error = record.exc_info[1] if record.exc_info else None
        closing = (isinstance(error, ValueError) and "already executing" in str(error)) or (
            isinstance(error, AttributeError) and "'NoneType'" in str(error)
        )
        if closing or "Cancelled" in record.getMessage():
            return False
        kind, now = (record.name, str(record.msg)), self._clock()
        if now - self._told.get(kind, -_AGAIN_S) < _AGAIN_S:
            return False
        self._told[kind] = now
        return True
