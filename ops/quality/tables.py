"""The report's tables, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ops.quality.drift import FRESH, NONE, Adaptation
from ops.quality.gate import Evidence, Gain, Verdict
from ops.quality.methods import AGAIN, HOURLY, METHODS, PEERS, PLACES, SCORERS, STRATA, TRIALS
from ops.quality.outcome import FIRST, LAGS, LENGTHS, SLICES, Outcome
from ops.quality.study import TUNED, VARIANTS, VARIED, Study, varied
from ops.quality.targets import best

ROWS = (STRATA, HOURLY, *PEERS, *SCORERS)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, its first column text, the others numbers."""
    return [
        f"| {' | '.join(head)} |",
        f"|---|{'--:|' * (len(head) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def main(study: Study) -> list[str]:
    """Every method, by every measure."""
    outcomes = dict(study.outcomes(ROWS))
    ours = outcomes.get(STRATA)
    head = ("method", "HR@10", "Strata − it", "NDCG@10", "MRR@10", "coverage", "Gini", *SLICES[1:], "µs an event")
    rows = []
    for name in ROWS:
        made = outcomes.get(name)
        if made is None:
            rows.append((name, "not finished", *[""] * (len(head) - 2)))
            continue
        against = "" if ours is None or name == STRATA else signed(ours.rate() - made.rate(), ours.error("all", made))
        rows.append(
            (
                f"**{name}**" if name == STRATA else name,
                f"{made.rate():.4f} ± {made.error():.4f}",
                against,
                f"{made.ndcg():.4f}",
                f"{made.reciprocal_rank():.4f}",
                f"{made.coverage():.1%}",
                f"{made.gini():.3f}",
                *(rate(made, of) for of in SLICES[1:]),
                "" if name == HOURLY else f"{made.microseconds():,.0f}",
            )
        )
    lines = table(head, rows)
    if ours is not None:
        sizes = ", ".join(f"{of} {int(ours.asked.slices[of].sum()):,}" for of in SLICES)
        lines += ["", f"Clicks asked for: {sizes}. Chance: {ours.asked.chance:.4f}."]
    return lines


def variants(study: Study) -> list[str]:
    """HR@10 with ties kept, and with repeats allowed."""
    took = {name: made.microseconds() for name, made in study.outcomes(PEERS)}
    lines = []
    for name in PEERS:
        if name not in VARIED:
            share = took.get(name, 0.0) / (sum(took.values()) or 1.0)
            part = f": of the CPU time of all peers above, {share:.0%} is its" if share else ""
            lines += [f"Without {name}, to save time{part}.", ""]
    return lines + table(
        ("HR@10", *VARIANTS),
        (
            (name, *(_rate(study.outcome(name, asked)) if name in varied(asked) else "" for asked in VARIANTS.values()))
            for name in (*VARIED, *AGAIN)
        ),
    )


def places(study: Study) -> list[str]:
    """What places kept for new items gain them, and what they cost the rest; Strata keeps one."""
    ours = study.outcome(STRATA)
    if ours is None:
        return []
    rows = []
    for name in (STRATA, *PLACES):
        made = study.outcome(name)
        if made is None:
            rows.append((name, "not finished", *[""] * 4))
            continue
        new = made.rate("new items")
        rows.append(
            (
                name,
                f"{new:.4f} ± {made.error('new items'):.4f}",
                f"{new / made.asked.chance:.1f}",
                signed(made.rate("the rest") - ours.rate("the rest"), made.error("the rest", ours)),
                signed(made.rate() - ours.rate(), made.error("all", ours)),
                f"{made.coverage():.1%}",
            )
        )
    return table(("places for new items", "new items", "× chance", "the rest", "all", "coverage"), rows)


def stale(studies: Sequence[Study]) -> list[str]:
    """Strata by the age of its lists."""
    return table(
        ("list so many clicks old", *map(str, LAGS), "hourly"),
        (
            (study.source.name, *(f"{ours.stale(lag).rate():.3f}" for lag in LAGS), f"{ours.hourly().rate():.3f}")
            for study in studies
            if (ours := study.outcome(STRATA)) is not None
        ),
    )


def first_clicks(study: Study) -> list[tuple[str, ...]]:
    """Rows of new users, one for each number of clicks that they have made before."""
    ours, peers = study.outcome(STRATA), dict(study.outcomes(PEERS))
    if ours is None or not peers:
        return []
    rows = []
    for of in FIRST:
        asked = ours.asked.slices[of]
        row = (study.source.name, of, f"{asked.mean():.2%}")
        if not asked.any():
            rows.append((*row, *["–"] * 4))
            continue
        name = best(peers, of)
        popular = peers.get("popularity")
        rows.append(
            (
                *row,
                f"{ours.rate(of):.4f} ± {ours.error(of):.4f}",
                f"{peers[name].rate(of):.4f} ± {peers[name].error(of):.4f} ({name})",
                "not finished" if popular is None else rate(popular, of),
                f"{ours.asked.chance:.4f}",
            )
        )
    return rows


def new_users(studies: Sequence[Study]) -> list[str]:
    """How soon a list knows somebody: HR@10 at the first clicks of a user."""
    head = ("data", "clicks before", "of all asked", "Strata", "best peer there", "popularity", "chance")
    return table(head, (row for study in studies for row in first_clicks(study)))


def tuned(study: Study) -> list[str]:
    """The chosen settings."""
    rows = []
    for name in TUNED:
        params = study.chosen(name)
        values = "not finished" if params is None else ", ".join(f"{key} {value:g}" for key, value in params)
        tried = len(METHODS[name].trials())
        rows.append((name, values, str(tried) if tried == TRIALS else f"{tried} (all that it has)"))
    return table(("method", "chosen", "tried"), rows)


def gate(verdicts: Sequence[Verdict]) -> list[str]:
    """What each component adds."""
    rows = [
        (
            verdict.component,
            each.data,
            *(_twice(gain, each) for gain in each.gains),
            *[""] * (3 - len(each.gains)),
            f"{each.coverage:+.1%}",
            f"{signed(each.blend.gain, each.blend.error)} ({each.best})",
            f"**{'on' if verdict.on else 'off'}**",
        )
        for verdict in verdicts
        for each in verdict.evidence
    ]
    head = ("component", "data", "all", "new items", "new users", "coverage", "Strata − best scorer alone", "verdict")
    return table(head, rows)


def _twice(gain: Gain, of: Evidence) -> str:
    """A gain, and what it is in a second run, if there is one."""
    again = "".join(f", again {signed(second.gain, second.error)}" for second in of.second if second.of == gain.of)
    return signed(gain.gain, gain.error) + again


def lengths(verdicts: Sequence[Verdict]) -> list[str]:
    """What each component adds, by the clicks that the user has made before."""
    rows = []
    for verdict in verdicts:
        for each in verdict.evidence:
            told = {gain.of: signed(gain.gain, gain.error) for gain in each.lengths}
            rows.append((verdict.component, each.data, *(told.get(of, "–") for of in LENGTHS)))
    return table(("component, by clicks of the user", "data", *LENGTHS), rows)


def adaptation(data: str, shifts: Mapping[str, Mapping[str, Adaptation]]) -> list[str]:
    """How soon the hit rate is back after a shift."""
    rows = []
    for shift, methods in shifts.items():
        for name, found in methods.items():
            windows = " ".join(f"{value:.3f}"[1:] for value in found.windows[found.before :][:8])
            before = " ".join(f"{value:.3f}"[1:] for value in found.windows[: found.before][-3:])
            reached = "" if shift in (FRESH, NONE) else "yes" if found.recovered >= 0.95 else "**no**"
            rows.append((f"{data}, {shift}", name, before, windows, f"{found.soon:.4f}", f"{found.level:.4f}",
                         f"{found.recovered:.0%} ± {found.error:.0%}", reached))  # fmt: skip
    return table(
        ("shift", "method", "by 1,000 before", "by 1,000 after", "2,500 – 5,000", "5,000 – 15,000", "back", "≥ 95 %"),
        rows,
    )


def signed(value: float, error: float) -> str:
    """A difference and its standard error."""
    return f"{value:+.4f} ± {error:.4f}"


def rate(made: Outcome, of: str) -> str:
    """HR@10 of a slice; a dash where it is empty."""
    value = made.rate(of)
    return "–" if math.isnan(value) else f"{value:.4f}"


def _rate(made: Outcome | None) -> str:
    return "not finished" if made is None else f"{made.rate():.4f} ± {made.error():.4f}"
