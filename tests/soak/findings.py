"""What a soak found: counts against the oracle, and how long things took."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from bookshop import Bookshop
from faults import Fault
from invariant import Outcome

from models.errors import InvalidEvent
from models.events import decode_click
from models.records import Recommendation
from ops.bench.machine import cpu, versions

RECOVERY_S = 30.0
"""What is promised from the start of a process until it is ready, with 100,000 profiles."""

_RESTORED = re.compile(r"restored (\d+) profiles of \d+ partition\(s\) in ([\d.]+) s")


@dataclass
class Findings:
    """One run.

    Attributes
    ----------
    recovery
        From the start of a lone worker, whose predecessor was killed just before, until it is ready, s.
    waits
        By fault, see :func:`freshness`.
    restored
        Profiles and seconds of each restore, by worker: the second worker is the one that recovers.
    """

    outcome: Outcome
    faults: Sequence[Fault]
    recovery: float
    waits: Sequence[float]
    restored: Sequence[tuple[int, float]]

    @property
    def starts(self) -> list[float]:
        """Every start of a process until it was ready, s, shortest first."""
        return sorted(seconds for fault in self.faults for seconds in fault.ready)

    def good(self, *, once: bool) -> bool:
        """Whether nothing is lost and nothing wrong; times are the machine's, too, and only told."""
        found = self.outcome
        twice = found.disordered or found.repeated_lists or found.repeated_letters
        return not (found.missing or found.differences or found.uncommitted or (once and twice))


def restores(folder: Path) -> list[tuple[int, float]]:
    """Profiles and seconds of each restore that the workers' logs tell of."""
    told = [
        found
        for log in sorted(folder.glob("worker-*.log"), key=_number)
        for found in _RESTORED.findall(log.read_text())
    ]
    return [(int(profiles), float(seconds)) for profiles, seconds in told if int(profiles)]


def _number(log: Path) -> int:
    return int(log.stem.rpartition("-")[2])


def freshness(shop: Bookshop, faults: Sequence[Fault]) -> list[float]:
    """By fault, the longest wait of a click that came between it and the next one, s.

    From the click's record to that of the first list that contains it.
    """
    lists: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for record in shop.records(shop.topics.recommendations):
        made = msgspec.json.decode(record.value or b"", type=Recommendation)
        lists.setdefault((record.partition, made.user_id), []).append((made.source.offset, record.timestamp))
    longest = [0.0] * len(faults)
    for record in shop.records(shop.topics.clicks):
        try:
            user = (record.partition, decode_click(record.value, record.headers).user_id)
        except InvalidEvent:
            continue
        after = sum(fault.at * 1000 <= record.timestamp for fault in faults)
        made_at = [at for offset, at in lists.get(user, []) if offset >= record.offset]
        if after and made_at:
            longest[after - 1] = max(longest[after - 1], (min(made_at) - record.timestamp) / 1000)
    return longest


def report(findings: Findings, run: str, broker: str, load: str, *, once: bool) -> list[str]:
    """The page, line by line."""
    found, starts, restored = findings.outcome, findings.starts, findings.restored
    faults = list(zip(findings.faults, findings.waits, strict=True))
    rows = []
    for kind in dict.fromkeys(fault.kind for fault in findings.faults):
        these = [(fault, wait) for fault, wait in faults if fault.kind == kind]
        ready = [seconds for fault, _ in these for seconds in fault.ready]
        rows.append(f"| {kind} | {len(these)} | {_most(ready)} | {_most([wait for _, wait in these])} |")
    alone, slowest = restored[1], max(seconds for _, seconds in restored)
    return [
        "# Soak",
        "",
        "Written by `make soak`; nothing here was typed by hand.",
        "",
        f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {run}",
        f"- {cpu()}; {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        f"- {broker}; {versions('kafka-python', 'torch')}",
        f"- {load}",
        "",
        "| what | found | expected |",
        "|---|---|---|",
        f"| events in | {found.clicks:,} | |",
        f"| lists out | {found.lists:,} | |",
        f"| dead letters, for messages that are no clicks | {found.letters:,} | |",
        f"| missing: neither list nor dead letter | {len(found.missing)} | 0 |",
        f"| not committed | {sum(end - at for at, end in found.uncommitted.values())} | 0 |",
        f"| profiles that are not the oracle's | {len(found.differences)} | 0 |",
        f"| duplicates: lists that came again | {found.repeated_lists} | {_zero(once, 'same `source`')} |",
        f"| lists after a newer one | {len(found.disordered)} | {_zero(once, 'lower `source.offset`')} |",
        f"| dead letters that came again | {found.repeated_letters} | {_zero(once, 'same origin')} |",
        f"| faults | {len(findings.faults)} | |",
        f"| recovery: start of a lone worker after a kill -9 → ready, {alone[0]:,} profiles |"
        f" {findings.recovery:.1f} s | ≤ {RECOVERY_S:.0f} s |",
        f"| of it the restore; longest of {len(restored)} restores under load | {alone[1]:.1f} s; {slowest:.1f} s | |",
        f"| start of a process → ready under load, median and longest of {len(starts)} |"
        f" {starts[len(starts) // 2] if starts else 0:.1f} s; {_most(starts)} s | |",
        "",
        "Ready (`/readyz`): model loaded, tables read, the profiles of the assigned partitions restored. The last"
        " column is freshness: from a click's record to that of the first list that contains it, over the clicks"
        " between the fault and the next one. A member that is killed is missed by the group after its session, 6 s.",
        "",
        "| fault | times | longest start → ready, s | longest click → list, s |",
        "|---|---|---|---|",
        *rows,
    ]


def _zero(once: bool, harmless: str) -> str:
    return "0" if once else f"harmless: {harmless}"


def _most(seconds: Sequence[float]) -> str:
    return f"{max(seconds):.1f}" if seconds else "–"
