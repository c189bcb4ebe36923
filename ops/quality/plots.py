"""The report's pictures, as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ops.figures import new_figure
from ops.quality.drift import WINDOW, WITHIN, Adaptation
from ops.quality.methods import HOURLY, STRATA
from ops.quality.outcome import LAGS, Outcome

_OURS: Final = "#2f6f4f"
_OTHERS: Final = "#8899aa"


def hit_rates(outcomes: Mapping[str, Mapping[str, Outcome]], path: Path) -> None:
    """HR@10 of every method on every data set, with its standard error; {data set: {method: outcome}}."""
    with _Figure(len(outcomes), path) as axes:
        for axis, (data, methods) in zip(axes, outcomes.items(), strict=True):
            names = sorted(methods, key=lambda name: methods[name].rate())
            axis.barh(
                names,
                [methods[name].rate() for name in names],
                xerr=[methods[name].error() for name in names],
                color=[_OURS if name in (STRATA, HOURLY) else _OTHERS for name in names],
            )
            axis.set_title(data, loc="left")
            axis.set_xlabel("HR@10, with its standard error")


def staleness(outcomes: Mapping[str, Outcome], path: Path) -> None:
    """HR@10 of Strata by the age of its lists; {data set: outcome}."""
    with _Figure(1, path) as (axis,):
        for data, outcome in outcomes.items():
            axis.plot(range(len(LAGS)), [outcome.stale(lag).rate() for lag in LAGS], marker="o", label=data)
        axis.set_xticks(range(len(LAGS)), list(map(str, LAGS)))
        axis.set_xlabel("list is so many clicks of its user old")
        axis.set_ylabel("HR@10 of Strata")
        axis.set_ylim(bottom=0)
        axis.legend()


def adaptation(shifts: Mapping[str, Mapping[str, Adaptation]], path: Path) -> None:
    """HR@10 by 1,000 clicks around a shift; {shift: {method: adaptation}}."""
    with _Figure(len(shifts), path) as axes:
        for axis, (shift, methods) in zip(axes, shifts.items(), strict=True):
            for name, found in methods.items():
                at = [(i - found.before + 0.5) * WINDOW for i in range(len(found.windows))]
                axis.plot(at, found.windows, marker=".", label=name, color=_OURS if name == STRATA else None)
            axis.axvline(0, color="black", linewidth=1)
            axis.axvline(WITHIN, color="black", linewidth=1, linestyle=":")
            axis.set_title(shift, loc="left")
            axis.set_xlabel("clicks asked for since the shift")
            axis.set_ylabel("HR@10")
            axis.set_ylim(bottom=0)
            axis.legend()


class _Figure:
    """Axes to draw on, side by side in rows of two; the file is written when the drawing ends without an error."""

    def __init__(self, panels: int, path: Path) -> None:
        columns = min(2, panels)
        rows = -(-panels // columns)
        self.figure = new_figure(6 * columns, 3.4 * rows)
        self.axes = self.figure.subplots(rows, columns, squeeze=False).ravel()
        for unused in self.axes[panels:]:
            unused.set_axis_off()
        self.panels, self.path = panels, path

    def __enter__(self) -> Sequence[Any]:
        return list(self.axes[: self.panels])

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            drawn = io.StringIO()
            self.figure.savefig(drawn, format="svg", metadata={"Date": None})
            lines = drawn.getvalue().splitlines()
            self.path.write_text("\n".join(line.rstrip() for line in lines) + "\n")
