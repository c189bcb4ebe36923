"""Named points at which a test may make the process fail. In operation nothing is armed and nothing can arm it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

POINTS: Final = ("after-encode", "after-send", "after-acknowledgements", "before-commit", "after-commit")
"""In the order in which a click meets them: encoded; sent, not yet waited for; acknowledged; about to commit; done."""

_hook: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """The process is at this point. 40 ns when nothing is armed, a few times for a batch."""
    if _hook is not None:
        _hook(name)


def arm(hook: Callable[[str], None] | None) -> None:
    """Call ``hook`` at every point; None disarms. Tests alone do this: no setting and no variable leads here."""
    global _hook
    _hook = hook
