"""Loops as machine code (Numba), for what goes candidate by candidate where NumPy would go array by array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from numba import njit

P = ParamSpec("P")
R = TypeVar("R")


def compiled(loop: Callable[P, R]) -> Callable[P, R]:
    """A loop that is compiled when first called, for the processor that it runs on.

    The code is kept beside the source, or where that may not be written in the user's cache, or in ``NUMBA_CACHE_DIR``;
    where nothing may be written, every process compiles anew. It is made again when the file changes, not when another
    one does: a loop is given other modules' constants, and who changes a loop that one of another file calls touches
    that file, too.

    Other threads run meanwhile. Nothing checks bounds, and arguments of another dtype or layout compile it again, for
    seconds: call a new one in :mod:`models.warm` and name it in ``tests/models/test_warm.py``, which looks for both.
    """
    return _made(loop)


def reordering(loop: Callable[P, R]) -> Callable[P, R]:
    """The same, for sums that may be added up in any order, as those of a matrix product are: many at a time."""
    return _made(loop, fastmath={"reassoc", "contract"})


def _made(loop: Callable[P, R], **options: Any) -> Callable[P, R]:
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        made = njit(cache=True, **options)(loop)
    except RuntimeError:  # nowhere to keep it
        made = njit(**options)(loop)
    return cast("Callable[P, R]", made)
