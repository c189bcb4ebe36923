"""What a click costs the updater without the encoder, by stage: ``python -m ops.bench.updater``.

The models learn the first clicks of a data set; then batches of clicks of different users go through what the
updater does with each: decode, apply, vector (a cached BERT vector mixed in), candidates, features, filters, diversity,
reasons, and the two records that are published. CPU time of this thread, one BLAS thread. The way from and to Kafka is
measured apart, since the client works on threads of its own: CPU time of the whole process, broker not included.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import faiss
import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from consumers.tables import TableReader
from models.encoder import Encoder
from models.events import Click, decode_click
from models.kernels import faster_product
from models.records import LayerRef, Recommendation, Source
from ops import catalogue
from ops.bench.machine import cpu
from ops.broker import EmbeddedBroker
from ops.datasets import dataset
from ops.prequential import BLOCK, System
from producers.publisher import Message, Publisher
from producers.topics import Topics

SHARED: Final = Path("../shared/data/online-retail")
FALLBACK: Final = "movielens-100k"
LEARN: Final = 40_000
TARGET_US: Final = 250.0


@dataclass(slots=True)
class Breakdown:
    """CPU seconds by stage.

    Attributes
    ----------
    batch
        Users in a batch.
    events
        Clicks measured.
    """

    batch: int
    events: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        start = time.thread_time()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.thread_time() - start

    def us(self, stage: str) -> float:
        """µs an event."""
        return self.seconds[stage] / max(1, self.events) * 1e6

    @property
    def total_us(self) -> float:
        """µs an event in all."""
        return sum(map(self.us, self.seconds))


def prepared(data: str, learn: int = LEARN) -> tuple[System, list[Click]]:
    """The live system after some clicks, and the clicks that come next."""
    source = dataset(data)
    clicks = list(source.clicks(2 * learn))
    learn = min(learn, len(clicks) // 2)
    encoder = Encoder.load()
    system = System(catalogue.of(source, encoder), precision=faster_product())
    for start in range(0, learn, BLOCK):
        system.learn(clicks[start : min(start + BLOCK, learn)], start)
    return system, clicks[learn:]


def measure(system: System, clicks: Sequence[Click], batch: int, rounds: int = 12) -> Breakdown:
    """Send batches through; in a batch every user occurs once, as after coalescing."""
    out = Breakdown(batch)
    recommender, items = system.recommender, system.items
    recommender.timings.clear()
    draw = np.random.default_rng(7)
    # in the order of the data one user's basket would fill a batch
    stream = iter([clicks[i] for i in draw.permutation(len(clicks))])
    offset = 10**9
    for number in range(rounds + 1):
        if number == 1:  # the first one warms caches up
            out.seconds.clear()
            recommender.timings.clear()
            out.events = 0
        different = {click.user_id: click for click in islice(stream, 8 * batch)}
        raw = [msgspec.json.encode(click) for click in list(different.values())[:batch]]
        if len(raw) < batch:
            break
        # what the encoder would have given: a real vector's length and memory, whatever its direction
        encoded = draw.normal(size=(batch, items.dimension)).astype(np.float32)
        encoded /= np.linalg.norm(encoded, axis=1, keepdims=True)
        now = int(time.time() * 1000)
        out.events += batch
        with out.timed("decode"):
            arrived = [decode_click(value) for value in raw]
        with out.timed("apply"):
            profiles = [system.profile(click.user_id) for click in arrived]
            for at, (profile, click) in enumerate(zip(profiles, arrived, strict=True), offset):
                profile.apply(click, at, items)
        offset += batch
        with out.timed("catalogue"):
            recommender.follow()
        vectors = recommender.user_vectors(profiles, encoded, 0.5)
        for profile, vector in zip(profiles, vectors, strict=True):
            profile.vector = vector
        lists = recommender.recommend(profiles, now)
        with out.timed("sentences"):
            listed = [recommender.ranked_items(*pair) for pair in zip(lists, profiles, strict=True)]
        with out.timed("list as JSON"):
            for profile, ranked, entries in zip(profiles, lists, listed, strict=True):
                msgspec.json.encode(
                    Recommendation(
                        user_id=profile.user_id,
                        generated_at=now,
                        event_ts=profile.times[-1],
                        model="bench",
                        layers_version=system.view.version,
                        arm="full",
                        encoded=True,
                        source=Source("clicks", 0, profile.applied),
                        layer=LayerRef(ranked.layer, ranked.label) if ranked.layer else None,
                        items=entries,
                    )
                )
        with out.timed("profile as msgpack"):
            for profile in profiles:
                profile.record(items, now)
                profile.fresh = 0
    for stage, seconds in recommender.timings.items():
        out.seconds[stage] = out.seconds.get(stage, 0.0) + seconds
    return out


def _product_us(system: System, users: int = 64, rounds: int = 50) -> float:
    """CPU time of a user's row of the product with all items, µs."""
    vectors = system.items.centred(np.arange(users)).copy()
    start = time.thread_time()
    for _ in range(rounds):
        system.recommender.index.scores(vectors)
    return (time.thread_time() - start) / rounds / users * 1e6


def kafka_us(batch: int = 256, rounds: int = 40, list_bytes: int = 3_000, profile_bytes: int = 4_000) -> float:
    """CPU time of all of the process's threads for reading a click and publishing a list and a profile, µs an event."""
    topics = Topics(partitions=1)
    with EmbeddedBroker() as broker:
        topics.ensure(broker.connection)
        publisher, read = Publisher(broker.connection, limits=topics.limits), list[int]()
        click = msgspec.json.encode(Click(user_id="household-1", item_id="item-1", ts=1_700_000_000_000))
        publisher.publish([Message(topics.clicks, b"household-1", click, 0)] * (batch * (rounds + 1)))
        noise = np.random.default_rng(7).bytes(list_bytes + profile_bytes)
        out = [
            Message(topics.recommendations, b"household-1", noise[:list_bytes], 0),
            Message(topics.profiles, b"household-1", noise[list_bytes:], 0),
        ] * batch
        reader = TableReader.open(broker.connection, {topics.clicks: lambda record: read.append(record.offset)})
        reader.poll(1.0, batch)
        start, before = time.process_time(), len(read)
        for _ in range(rounds):
            reader.poll(1.0, batch)
            publisher.publish(out)
        seconds = time.process_time() - start
        reader.close()
        publisher.close()
    return seconds / max(1, len(read) - before) * 1e6


ORDER: Final = (
    "decode",
    "apply",
    "catalogue",
    "user vectors",
    "layers",
    "filters",
    "candidates",
    "features",
    "score",
    "diversity",
    "reasons",
    "sentences",
    "list as JSON",
    "profile as msgpack",
)


def report(data: str | None = None, batches: Sequence[int] = (64, 256)) -> str:
    """The section of RESULTS.md."""
    name = data or (str(SHARED) if SHARED.is_dir() else FALLBACK)
    with threadpool_limits(1):
        faiss.omp_set_num_threads(1)
        system, clicks = prepared(name)
        system.recommender = type(system.recommender)(
            system.items,
            system.neighbours,
            system.recommender.index,
            system.view,
            system.config,
            system.recommender.sequence,
            time.thread_time,
        )
        for _ in range(len(system.items) // 64 + 1):  # what is new is looked up a little at a time, and only once
            system.recommender.follow()
        gc.collect()
        gc.freeze()  # or each full collection walks through all of torch, at the cost of 100 µs an event
        runs = [measure(system, clicks, batch) for batch in batches]
        product = _product_us(system)
        rate = 2 * len(system.items) * system.items.dimension / product / 1e3
        kafka = kafka_us()
    reached = "reached" if max(run.total_us for run in runs) <= TARGET_US else "**missed**"
    lines = [
        "## Updater without the encoder",
        "",
        f"CPU time of one thread an event, µs, by stage; {Path(name).name}, {len(system.items):,} items, after the "
        f"first {LEARN:,} clicks; in the head the users in a batch. Target: at most {TARGET_US:.0f} µs: {reached}."
        f" {cpu()}. How busy the machine was: the product of the users' vectors with all items, part of the "
        f"candidates, took {product:.0f} µs a user at {rate:.0f} GFLOP/s. `python -m ops.bench.updater`",
        "",
        "| stage | " + " | ".join(str(run.batch) for run in runs) + " |",
        "|---|" + "--:|" * len(runs),
    ]
    lines += [f"| {stage} | " + " | ".join(f"{run.us(stage):.1f}" for run in runs) + " |" for stage in ORDER]
    lines.append("| **all** | " + " | ".join(f"**{run.total_us:.0f}**" for run in runs) + " |")
    lines += [
        "",
        f"To this comes the way from and to Kafka: {kafka:.0f} µs an event on all threads of kafka-python, for one "
        "click read and a list of 3 KB and a profile of 4 KB published and acknowledged, 256 at a time.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the section."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="a data set, default online-retail where it is present")
    print(report(parser.parse_args().data))


if __name__ == "__main__":
    main()
