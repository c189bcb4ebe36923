"""Whether a policy file can be used, and how many items of a catalogue each of its rules names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rich.table import Table
from rich.text import Text

from consumers.client import Record
from consumers.tables import TableReader
from models.errors import ConfigurationError
from models.events import Item, decode_item
from models.policy import EVERY, Blocked, Policy, boost_rule, pin_rule
from models.policy_file import parse
from ops.reading import clean
from producers.connection import Connection
from producers.topics import Topics

Named = tuple[str, str]
"""What a rule names: ``item``, ``category``, ``tag`` or ``label``, and which."""


def read(path: Path) -> Policy:
    """The rules of a file.

    Raises
    ------
    ConfigurationError
        If it cannot be used: with the line and what is wrong there.
    """
    try:
        return parse(path.read_bytes().decode())
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8: {error}") from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def catalogue(connection: Connection, topics: Topics) -> list[Item]:
    """What is on the topic ``items``, but for what is no item there."""
    found: dict[bytes, Item] = {}

    def keep(record: Record) -> None:
        found.pop(record.key or b"", None)
        if record.value is not None:
            found[record.key or b""] = decode_item(record.value, record.headers)

    reader = TableReader.open(connection, {topics.items: keep}, role="reading")
    try:
        reader.catch_up()
    finally:
        reader.close()
    return list(found.values())


def count(items: Iterable[Item]) -> Counter[Named]:
    """How many items bear each name that a rule can name."""
    counts: Counter[Named] = Counter()
    for item in items:
        counts.update([("item", item.item_id), ("category", item.category)])
        counts.update(("tag", tag) for tag in set(item.tags))
        counts.update(("label", label) for label in set(item.safety))
    return counts


def rules(policy: Policy) -> Iterator[tuple[str, Named]]:
    """Each rule that names something, and what."""
    yield from _blocked("everybody", policy.blocked)
    for user, blocked in policy.users.items():
        yield from _blocked(user, blocked)
    for category, most in policy.category_caps.items():
        if category != EVERY:
            yield f"{most} in a list at most", ("category", category)
    for boost in policy.boosts:
        for kind, name in (("category", boost.category), ("tag", boost.tag), ("item", boost.item)):
            if name is not None:
                yield f"{boost_rule(boost)}, {boost.add:+g}", (kind, name)
    for pin in policy.pins:
        yield f"{pin_rule(pin)}, place {pin.place}", ("item", pin.item)


def _blocked(whom: str, blocked: Blocked) -> Iterator[tuple[str, Named]]:
    for kind, names in (
        ("category", blocked.blocked_categories), ("label", blocked.blocked_labels), ("item", blocked.blocked_items),
    ):  # fmt: skip
        for name in sorted(names):
            yield f"blocked for {whom}", (kind, name)


def table(policy: Policy, counts: Mapping[Named, int]) -> Table:
    """The rules, and how many items each is about; none: it is misspelt, or its items are still to come."""
    made = Table("rule", "names", "items")
    for rule, (kind, name) in rules(policy):
        number = counts.get((kind, name), 0)
        about = Text(f"{number:,}") if number else Text("none has it", style="bold yellow")
        made.add_row(Text(clean(rule)), Text(clean(f"{kind} {name}")), about)
    return made
