"""The limits of the loop: how much at a time, and how long each thing may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """The loop's limits."""

    max_records: int = 500
    """Most records that one poll takes."""
    idle_poll_s: float = 0.1
    """How long a poll may wait for records when nothing is in flight."""
    busy_poll_s: float = 0.02
    """The same while the stage has work in flight; the loop's ``wake`` cuts it short. A poll costs .5 ms of CPU."""
    drain_s: float = 25.0
    """How long a stop may take to finish what is in flight; the rest of the 30 s is for commit and close."""
    join_timeout_s: float = 30.0
    """How long the group may take to let this member in."""
    retry_s: float = 60.0
    """How long a publish or commit that the broker does not answer is tried again."""
    revoke_s: float = 5.0
    """How long a revocation may wait for what is in flight; then that is dropped whole. The group waits as long for
    this member, so it is a small part of ``max_poll_interval_s``, and no more than a few ``STRATA_DEADLINE_MS``."""
    settle_s: float = 2.0
    """How long to listen for a rebalance after work was aborted, before the partitions that stay are taken up again.
    A worker that was frozen hears in this time that it has been replaced."""
    stuck_s: float = 60.0
    """After so long without a step the loop counts as dead (/livez)."""
    restore_s: float = 300.0
    """The same while the stage restores newly assigned partitions."""
    report_s: float = 1.0
    """How often lag is measured."""
