"""The policy file, followed while a worker runs, and what its rules do, counted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from consumers.metrics import Metrics
from models.errors import ConfigurationError
from models.policy import RULES, Policy
from models.policy_file import parse
from models.recommender import Recommender

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""Time between two looks at the file, s."""


class PolicyWatch:
    """Keeps a recommender on the rules of a file, whenever its content changes.

    A file that cannot be used is told once, and the last good rules stay.

    Parameters
    ----------
    path
        The file; None: there are no rules, and only the filters of the settings are counted.
    stored
        The name that a user is stored by.

    Raises
    ------
    ConfigurationError
        If the file cannot be used at the start: then there are no last good rules.
    """

    def __init__(
        self, path: Path | None, recommender: Recommender, metrics: Metrics, stored: Callable[[str], str] = str
    ) -> None:
        self._path = path
        self._recommender = recommender
        self._metrics = metrics
        self._stored = stored
        self._content = b""
        self._told = ""
        self._rules: frozenset[str] = frozenset()
        self._next = 0.0
        for rule in RULES:
            metrics.policy.labels(rule)
        if path is not None:
            try:
                self._use(content := self._read(path))
            except ConfigurationError as error:
                raise ConfigurationError(f"STRATA_POLICY={path}: {error}") from None
            self._content = content

    def follow(self, now: float, wall_ms: int) -> None:
        """Look at the file, and pass on what the rules did, once in :data:`LOOK_S`. ``now`` is monotonic, s."""
        if now < self._next:
            return
        self._next = now + LOOK_S
        if self._path is not None:
            self._look(self._path)
        self._recommender.filters.count_expired(wall_ms)
        counts = self._recommender.counts
        for rule, count in counts.items():
            if count:
                self._metrics.policy.labels(rule).inc(count)
        counts.clear()

    def _look(self, path: Path) -> None:
        try:
            content = self._read(path)
            if content == self._content:
                self._told = ""
                return
            self._use(content)
        except ConfigurationError as error:
            if str(error) != self._told:
                self._metrics.policy_loads.inc()
                self._metrics.policy_load_failures.inc()
                log.error(
                    "updater: the policy %(path)s cannot be used, the last good one stays: %(error)s",
                    {"path": path, "error": error},
                )
            self._told = str(error)
            return
        self._content, self._told = content, ""
        self._metrics.policy_loads.inc()
        log.info("updater: the policy %(path)s is followed as it is now", {"path": path})

    def _use(self, content: bytes) -> None:
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"not UTF-8: {error}") from None
        policy: Policy = parse(text).stored(self._stored)
        self._recommender.apply(policy)
        for gone in self._rules - policy.rules:  # the labels stay as many as the rules of one file
            self._recommender.counts.pop(gone, None)
            self._metrics.policy.remove(gone)
        for rule in policy.rules:
            self._metrics.policy.labels(rule)
        self._rules = policy.rules

    @staticmethod
    def _read(path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"cannot be read: {error.strerror}") from None
