"""The roles that a process may run, known without loading what they need."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from models.errors import ConfigurationError

ROLES: Final = ("catalogue", "updater", "neighbours", "layers", "ranker", "sequence", "erasure", "feed")
"""In the order in which they start."""


def chosen(roles: Collection[str]) -> list[str]:
    """These roles in the order in which they start; all where none is named.

    Raises
    ------
    ConfigurationError
        If one is unknown.
    """
    unknown = [role for role in roles if role not in ROLES]
    if unknown:
        raise ConfigurationError(f"no such role: {', '.join(unknown)}; the roles are {', '.join(ROLES)}")
    return [role for role in ROLES if role in roles or not roles]
