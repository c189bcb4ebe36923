"""One log for all rooms: they use the standard library's loggers, and structlog renders what they say."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

from ops.roles import ROLES

_QUIET = ("kafka", "transformers", "httpx", "faiss.loader")
"""Libraries whose everyday news would drown ours. At debug level Kafka's client writes passwords and tokens, too."""


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
    handler.addFilter(_worth_telling)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


def _role(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Whose line it is: each role has a thread of its name."""
    record = event.get("_record")
    if record is not None and record.threadName in ROLES:
        event.setdefault("role", record.threadName)
    return event


def _worth_telling(record: logging.LogRecord) -> bool:
    """Kafka's client logs as an error that its own close cancels what it was about to do."""
    return not (record.name.startswith("kafka") and "Cancelled" in record.getMessage())
