"""Real clicks through real workers while everything is broken, again and again: ``make soak`` (``SECONDS=600``).

``python tests/soak [SECONDS]`` replays the grocery panel through `strata run` processes, on Apache Kafka where
KAFKA_HOME names a distribution and on the embedded broker otherwise, kills, freezes, stops and adds workers and
restarts the broker at random, and compares what is left with a single-threaded oracle. ``--report FILE`` writes what
was found there. The exit status is not 0 if a click is missing, a profile differs, or a recovery took too long.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(folder) for folder in list(Path(__file__).parents)[1:3]]

from apache_kafka import ApacheKafka, home
from bookshop import Bookshop, tiny_model, wait_for
from faults import LONGEST_RECOVERY_S, Victims
from findings import Findings, freshness, report, restores
from invariant import compare
from stream import BYSTANDER, Feed, bystanders, replayed

from ops.broker import EmbeddedBroker
from producers.replay import item_message
from producers.topics import Topics

RATE = 30.0
ITEMS = 3_000
DIMENSION = 384
"""Of the default model's vectors: what a profile of the stock measures."""
CALM_S = (3.0, 10.0)
"""Between a recovery and the next fault."""


def tell(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S}  {text}", flush=True)


def main() -> int:
    arguments = argparse.ArgumentParser(prog="soak", description=__doc__.partition("\n")[0])
    arguments.add_argument("seconds", type=float, nargs="?", default=600.0)
    arguments.add_argument("--profiles", type=int, default=100_000, help="that are there before it begins")
    arguments.add_argument("--seed", type=int, default=int(time.time()) % 10_000)
    arguments.add_argument("--report", type=Path, help="a Markdown file to write")
    arguments.add_argument("--logs", type=Path, help="a folder to keep the processes' logs in")
    given = arguments.parse_args()
    logging.getLogger("kafka").setLevel(logging.ERROR)
    node = ApacheKafka() if home() else None
    broker = EmbeddedBroker() if node is None else node
    with tempfile.TemporaryDirectory(prefix="strata-soak-") as temporary:
        folder = given.logs or Path(temporary)
        folder.mkdir(exist_ok=True)
        broker.start()
        try:
            return soak(given, node, Bookshop(broker.connection, Topics(prefix="soak.", partitions=6)), folder)
        finally:
            broker.close()


def soak(given: argparse.Namespace, node: ApacheKafka | None, shop: Bookshop, folder: Path) -> int:
    """One run; the exit status."""
    delivery, draw = "exactly-once" if node else "at-least-once", random.Random(given.seed)
    tell(f"seed {given.seed}, {'Apache Kafka' if node else 'embedded broker'}, {delivery}")
    items, clicks = replayed(int(RATE * (given.seconds + 60)), ITEMS)
    shop.publisher.publish([item_message(item, shop.topics) for item in items])
    began = time.monotonic()
    size = bystanders(shop, given.profiles, items, DIMENSION, lambda: None)
    tell(f"{given.profiles:,} profiles of {size} bytes each there in {time.monotonic() - began:.0f} s")
    settings = shop.given | {
        "kafka_bootstrap": shop.connection.bootstrap, "delivery": delivery, "session_timeout_s": 6,
        "model": tiny_model(folder / "model", DIMENSION), "threads": 1, "partitions": 6, "group": "soak",
    }  # fmt: skip
    shop.given |= {"group": "soak"}
    victims = Victims(settings, folder, draw, node, 6.0)
    feed = Feed(shop, clicks, RATE)
    try:
        victims.learners.await_ready(LONGEST_RECOVERY_S)
        wait_for(lambda: len(shop.records(shop.topics.vectors)) >= len(items), "the catalogue", 300)
        recovery = victims.recover()
        tell(f"a worker alone, killed: ready again after {_seconds([recovery])}")
        victims.begin()
        feed.start()
        ends = time.monotonic() + given.seconds
        while time.monotonic() < ends:
            time.sleep(draw.uniform(*CALM_S))
            victims.check()
            fault = victims.strike()
            tell(f"{fault.kind:26} ready after {_seconds(fault.ready)}; {feed.sent:,} clicks so far")
        feed.stop()
        tell("no more clicks; until everything is committed …")
        wait_for(lambda: shop.committed() == shop.ends(), "everything committed", 180)
        victims.check()
        statuses = victims.stop()
    finally:
        victims.kill()
    if any(statuses):
        tell(f"stops ended with {statuses}")
    findings = Findings(
        compare(shop, bystanders=BYSTANDER), victims.faults, recovery, freshness(shop, victims.faults), restores(folder)
    )
    lines = report(
        findings,
        f"{given.seconds:.0f} s, seed {given.seed}; load average of the machine {os.getloadavg()[2]:.1f}",
        f"{'Apache Kafka, one node' if node else 'the embedded broker'}, {delivery}",
        f"the grocery panel's baskets at {RATE:.0f} clicks a second on {ITEMS:,} items, two to three updaters"
        " (`strata run updater`), one process with the other roles, a BERT of two layers with random weights;"
        f" {given.profiles:,} profiles besides those of the users who click",
        once=node is not None,
    )
    print("\n".join(["", *lines]))
    if given.report:
        given.report.write_text("\n".join(lines) + "\n")
        tell(f"written to {given.report}")
    return 0 if findings.good(once=node is not None) and not any(statuses) else 1


def _seconds(taken: Sequence[float]) -> str:
    return " and ".join(f"{one:.1f} s" for one in taken) or "no start"


if __name__ == "__main__":
    sys.exit(main())
