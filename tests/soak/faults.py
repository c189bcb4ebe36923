"""What is done to a group of workers while clicks keep coming, and how long each takes to be whole again."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apache_kafka import ApacheKafka
from strata import Strata

WORKERS = 2
LONGEST_RECOVERY_S = 120.0
LEARNERS = ["catalogue", "neighbours", "layers"]


@dataclass
class Fault:
    """One thing that was done.

    Attributes
    ----------
    at
        When it began, s since the epoch.
    ready
        From the start of each process that it made start until that was ready, s.
    """

    kind: str
    at: float
    ready: list[float]


class Victims:
    """Two updaters, at times three, and one process with the other roles.

    Parameters
    ----------
    node
        The broker, if it is one that keeps its log over a restart.
    """

    def __init__(
        self, settings: dict[str, Any], folder: Path, draw: random.Random, node: ApacheKafka | None, session_s: float
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._draw = draw
        self._node = node
        self._session_s = session_s
        self._started = 0
        self.workers: list[Strata] = []
        self.learners = self._start("learners", LEARNERS)
        self.faults: list[Fault] = []
        self.kinds: list[tuple[str, int, Callable[[Fault], None]]] = [
            ("kill -9", 4, self._kill),
            ("both killed", 1, self._kill_both),
            ("stop and start", 1, self._restart),
            ("a third joins, one leaves", 2, self._grow_and_shrink),
            ("frozen beyond its session", 1, self._freeze),
            ("learners killed", 1, self._kill_learners),
        ]
        if node is not None:
            self.kinds += [("broker restarted", 1, self._restart_broker), ("broker killed", 1, self._kill_broker)]

    def recover(self) -> float:
        """A worker alone, killed and started again: seconds until it is ready with everybody's profiles."""
        lone = self._worker()
        lone.await_ready(LONGEST_RECOVERY_S)
        lone.kill()
        self.workers = [self._worker()]
        return self.workers[0].await_ready(LONGEST_RECOVERY_S)

    def begin(self) -> None:
        """Start the other updaters."""
        while len(self.workers) < WORKERS:
            self.workers.append(self._worker())
        for worker in self.workers:
            worker.await_ready(LONGEST_RECOVERY_S)

    def strike(self) -> Fault:
        """Do something at random, and wait until every process is ready again.

        Whatever has not been done yet comes before what has, so that a short run sees every kind.
        """
        done = {fault.kind for fault in self.faults}
        choice = [kind for kind in self.kinds if kind[0] not in done] or self.kinds
        kind, _, strike = self._draw.choices(choice, [weight for _, weight, _ in choice])[0]
        fault = Fault(kind, time.time(), [])
        self.faults.append(fault)
        strike(fault)
        for process in [*self.workers, self.learners]:
            process.await_ready(LONGEST_RECOVERY_S)
        return fault

    def stop(self) -> list[int]:
        """SIGTERM to all; the exit statuses."""
        return [process.stop() for process in [*self.workers, self.learners]]

    def kill(self) -> None:
        """Whatever still runs."""
        for process in [*self.workers, self.learners]:
            if process.alive:
                process.kill()

    def check(self) -> None:
        """Raise if a process ended on its own."""
        for process in [*self.workers, self.learners]:
            if not process.alive:
                raise RuntimeError(f"{process.name} ended on its own:\n{process.said()[-3000:]}")

    def _start(self, name: str, roles: list[str]) -> Strata:
        return Strata(name, roles, self._settings, self._folder / f"{name}.log")

    def _worker(self) -> Strata:
        self._started += 1
        return self._start(f"worker-{self._started}", ["updater"])

    def _any(self) -> int:
        return self._draw.randrange(len(self.workers))

    def _kill(self, fault: Fault) -> None:
        one = self._any()
        self.workers[one].kill()
        time.sleep(self._draw.uniform(0, 3))
        self.workers[one] = self._worker()
        fault.ready.append(self.workers[one].await_ready(LONGEST_RECOVERY_S))

    def _kill_both(self, fault: Fault) -> None:
        for worker in self.workers:
            worker.kill()
        self.workers = [self._worker() for _ in self.workers]
        fault.ready += [worker.await_ready(LONGEST_RECOVERY_S) for worker in self.workers]

    def _restart(self, fault: Fault) -> None:
        one = self._any()
        if status := self.workers[one].stop():
            raise RuntimeError(f"a stop ended with {status}:\n{self.workers[one].said()[-3000:]}")
        self.workers[one] = self._worker()
        fault.ready.append(self.workers[one].await_ready(LONGEST_RECOVERY_S))

    def _grow_and_shrink(self, fault: Fault) -> None:
        third = self._worker()
        self.workers.append(third)
        fault.ready.append(third.await_ready(LONGEST_RECOVERY_S))
        time.sleep(self._draw.uniform(1, 5))
        self.workers.pop(self._any()).stop()

    def _freeze(self, fault: Fault) -> None:
        one = self.workers[self._any()]
        one.signal(signal.SIGSTOP)
        time.sleep(self._session_s + 4)
        one.signal(signal.SIGCONT)

    def _kill_learners(self, fault: Fault) -> None:
        self.learners.kill()
        self.learners = self._start("learners", LEARNERS)
        fault.ready.append(self.learners.await_ready(LONGEST_RECOVERY_S))

    def _restart_broker(self, fault: Fault) -> None:
        self._break_broker(signal.SIGTERM)

    def _kill_broker(self, fault: Fault) -> None:
        self._break_broker(signal.SIGKILL)

    def _break_broker(self, number: int) -> None:
        assert self._node is not None
        self._node.stop(number)
        time.sleep(self._draw.uniform(1, 5))
        self._node.start()
