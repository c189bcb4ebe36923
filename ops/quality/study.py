"""The whole evaluation: tune every method on the first part of a stream, measure it on the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from ops.quality.cells import Cell
from ops.quality.drift import NONE, SHIFTS
from ops.quality.methods import (
    AGAIN,
    HOURLY,
    METHODS,
    OWN,
    OWN_ITEMS,
    PEERS,
    PLACES,
    SCORERS,
    STRATA,
    TOGGLED,
    Params,
    allowing_repeats,
    toggled,
)
from ops.quality.outcome import Outcome
from ops.quality.replay import Protocol
from ops.quality.sources import Source

TUNING: Final = Protocol(start=0.1, stop=0.3, every=2)
"""The first tenth is learned only; of what is asked for after it every second click is."""

REPORTING: Final = Protocol(start=0.3)
"""Ties shuffled, no repeats: what the tables show first."""

REPEATS: Final = Protocol(start=0.3, repeats=True)
"""Items may come again."""

VARIANTS: Final = {"ties kept": Protocol(start=0.3, ties="keep"), "repeats allowed": REPEATS}

VARIED: Final = (STRATA, *(name for name in PEERS if name != "SASRec"))
"""Without the one that alone would take as long as all others together."""


def varied(protocol: Protocol) -> tuple[str, ...]:
    """What is measured in a variant."""
    return (*VARIED, *AGAIN) if protocol.repeats else VARIED


BEFORE: Final = 0.1
"""Share of a stream that is asked for before it shifts."""

SHIFTED_METHODS: Final = (STRATA, "EASE", "popularity")

TUNED: Final = (STRATA, *PEERS)


@dataclass(frozen=True, slots=True)
class Study:
    """One data set."""

    source: Source

    def tuning(self) -> list[Cell]:
        """Every trial of every method that is tuned."""
        return [Cell(self.source, name, params, TUNING) for name in TUNED for params in METHODS[name].trials()]

    def chosen(self, name: str) -> Params | None:
        """The settings with the best HR@10 on the tuning slice, the earlier of equals; None while a trial is missing.

        What is left out of Strata, put into it, kept in it, or ranks alone goes with Strata's own settings.
        """
        if name in SCORERS or name == OWN_ITEMS:
            return ()
        if name in TOGGLED or name in PLACES or name == toggled(OWN):
            name = STRATA
        best: tuple[float, Params] | None = None
        for params in METHODS[name].trials():
            outcome = Cell(self.source, name, params, TUNING).outcome()
            if outcome is None:
                return None
            if best is None or outcome.rate() > best[0]:
                best = outcome.rate(), params
        return None if best is None else best[1]

    def cell(self, name: str, protocol: Protocol = REPORTING) -> Cell | None:
        """The cell that is reported, once its settings are chosen."""
        params = self.chosen(name)
        if params is not None and protocol.repeats:
            params = allowing_repeats(name, params)
        return None if params is None else Cell(self.source, name, params, protocol)

    def outcome(self, name: str, protocol: Protocol = REPORTING) -> Outcome | None:
        """What is reported of a method, if it is there."""
        if name == HOURLY:
            live = self.outcome(STRATA, protocol)
            return None if live is None else live.hourly()
        cell = self.cell(name, protocol)
        return None if cell is None else cell.outcome()

    def outcomes(self, names: Iterable[str], protocol: Protocol = REPORTING) -> Iterator[tuple[str, Outcome]]:
        """Those that are there."""
        for name in names:
            made = self.outcome(name, protocol)
            if made is not None:
                yield name, made

    def reporting(self) -> list[Cell]:
        """What the first table needs, the cheap ones first."""
        places = () if self.source.new else PLACES
        return self._cells((STRATA, *SCORERS, *TOGGLED, *places, *PEERS), (REPORTING,))

    def variants(self) -> list[Cell]:
        """Ties kept, repeats allowed; not for streams that are derived from another."""
        if self.source.new:
            return []
        return [cell for protocol in VARIANTS.values() for cell in self._cells(varied(protocol), (protocol,))]

    def drift(self) -> dict[tuple[str, str], Cell]:
        """(shift, method) → the cell on the shifted stream, asked for from some time before the shift."""
        if self.source.new:
            return {}
        return {
            (shift, name): replace(
                cell,
                source=replace(self.source, shift=shift),
                protocol=Protocol(start=max(0.0, shifted.at - BEFORE)),
            )
            for shift, shifted in SHIFTS.items()
            for name in SHIFTED_METHODS
            if (cell := self.cell(name)) is not None
        }

    def unshifted(self) -> dict[tuple[str, str], Cell]:
        """What :meth:`drift` is held against: cells that are reported anyway, under :data:`~ops.quality.drift.NONE`."""
        if self.source.new:
            return {}
        return {(NONE, name): cell for name in SHIFTED_METHODS if (cell := self.cell(name)) is not None}

    def _cells(self, names: Iterable[str], protocols: Iterable[Protocol]) -> list[Cell]:
        found = (self.cell(name, protocol) for protocol in protocols for name in names)
        return [cell for cell in found if cell is not None]
