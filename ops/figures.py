"""Pictures by matplotlib, which is an extra."""

from __future__ import annotations

from typing import Any

from models.errors import ConfigurationError


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, inches; the same drawing gives the same bytes as SVG.

    Raises
    ------
    ConfigurationError
        If there is no matplotlib.
    """
    try:
        from matplotlib import rcParams
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigurationError("pictures need matplotlib: pip install 'strata-recommender[plot]'") from None
    rcParams["svg.hashsalt"] = "strata"
    return Figure(figsize=(width, height), layout="constrained")
