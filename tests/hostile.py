"""A stream as an attacker would write it, deterministic by seed; of each message it is known what must become of it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from bookshop import BOOKS

from consumers.header_names import RawName

NOW: Final = 1_760_000_000_000
"""Time of the clicks, ms since the epoch: in the past, so that none is clamped unless it means to be."""

READERS: Final = [f"reader-{n}" for n in range(500)]
FLOOD: Final = "the one who clicks"
HIT: Final = BOOKS[0].item_id

CLOUD: Final = (("ce_specversion", b"1.0"), ("ce_source", b"shop"), ("ce_type", b"click"))
STRUCTURED: Final = (("content-type", b"application/cloudevents+json"),)
RAW: Final = RawName(b"\xff\xfe name".decode("utf-8", "surrogateescape"))
"""A header's name that is not UTF-8."""

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """One message.

    Attributes
    ----------
    kind
        What it tries.
    topic
        ``clicks`` or ``items``.
    reason
        What its dead letter must give as the reason, a part of it; None: it can be used and has no dead letter.
    user
        Whose click it is, if it can be used.
    """

    kind: str
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    reason: str | None = None
    user: str | None = None


@dataclass
class Stream:
    """Messages without end.

    Parameters
    ----------
    seed
        Two streams of one seed are the same.
    items
        Share of messages on ``items``; the others are on ``clicks``.
    """

    seed: int = 0
    items: float = 0.03
    draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    def __iter__(self) -> Iterator[Sent]:
        usable, bad = _by_weight(self.usable()), _by_weight(self.bad())
        items = _by_weight(self.on_items())
        while True:
            chance = self.draw.random()
            if chance < self.items:
                yield self._one(items)()
            else:
                yield self._one(usable if chance < 0.6 else bad)()

    def _one(self, kinds: tuple[list[Callable[[], Sent]], list[float]]) -> Callable[[], Sent]:
        return self.draw.choices(kinds[0], cum_weights=kinds[1])[0]

    # -- what clicks are made of ----------------------------------------------------------------------------------

    def reader(self) -> str:
        return self.draw.choice(READERS)

    def book(self) -> str:
        return self.draw.choice(BOOKS).item_id

    def noise(self, length: int) -> bytes:
        return self.draw.randbytes(length)

    def click(self, kind: str, user: str, item: str, key: bytes | bool | None = True, headers: Headers = (), **more: Any) -> Sent:  # fmt: skip
        """A click that can be used."""
        value = json.dumps({"user_id": user, "item_id": item, "ts": NOW} | more).encode()
        return Sent(kind, "clicks", user.encode() if key is True else key or None, value, headers, user=user)

    def broken(self, kind: str, reason: str, value: bytes | None, headers: Headers = ()) -> Sent:
        """A message that cannot be used, under a key as good as any."""
        key = self.draw.choice([None, b"reader-1", b"", self.noise(9)])
        if key is None and value is None:
            key = b"reader-1"  # no client of ours can write a message of nothing at all
        return Sent(kind, "clicks", key, value, headers, reason)

    def wrong(self, kind: str, reason: str, headers: Headers = (), **fields: Any) -> Sent:
        """A click with something wrong in it."""
        value = json.dumps({"user_id": self.reader(), "item_id": self.book(), "ts": NOW} | fields).encode()
        return self.broken(kind, reason, value, headers)

    # -- the kinds, by weight --------------------------------------------------------------------------------------

    def usable(self) -> list[tuple[float, Callable[[], Sent]]]:
        """Clicks that can be used, however strange."""
        draw = self.draw
        cloud: Headers = (*CLOUD, ("ce_id", b"e"), ("ce_time", b"2025-01-01T00:00:00Z"))

        def structured() -> Sent:
            user, n = self.reader(), draw.getrandbits(60)
            data = {"user_id": user, "item_id": self.book()}
            envelope = {"specversion": "1.0", "id": f"{n:x}", "source": "shop", "type": "click", "data": data}
            value = json.dumps(envelope | {"time": "2025-01-01T00:00:00Z"}).encode()
            return Sent("structured CloudEvent", "clicks", user.encode(), value, STRUCTURED, user=user)

        def binary() -> Sent:
            user = self.reader()
            value = json.dumps({"user_id": user, "item_id": self.book(), "event_id": f"{draw.getrandbits(60):x}"})
            return Sent("binary CloudEvent", "clicks", user.encode(), value.encode(), cloud, user=user)

        return [
            (30, lambda: self.click("plain", self.reader(), self.book())),
            (40, lambda: self.click("one user", FLOOD, self.book())),
            (20, lambda: self.click("one item", self.reader(), HIT)),
            (4, lambda: self.click("an item that nobody described", self.reader(), f"item-{draw.getrandbits(64):x}")),
            (0.5, lambda: self.click("a user for once", f"user-{draw.getrandbits(64):x}", self.book())),
            (1, lambda: self.click("an event kind of its own", self.reader(), self.book(), event=f"{draw.getrandbits(40):x}")),
            (1, lambda: self.click("no key", self.reader(), self.book(), key=False)),
            (1, lambda: self.click("a binary key", self.reader(), self.book(), key=self.noise(12))),
            (1, lambda: self.click("a name like no other", "用户 é 🙂", "книга-🙂")),
            (0.2, lambda: self.click("padded", self.reader(), self.book(), pad="x" * draw.randrange(2_000, 60_000))),
            (1, lambda: self.click("unknown fields", self.reader(), self.book(), a=[1, {"b": None}], c=1e308, ce_id={})),
            (1, lambda: self.click("the far future", self.reader(), self.book(), ts=draw.choice([4_000_000_000_000, 253_402_300_799_999]))),
            (1, lambda: self.click("the far past", self.reader(), self.book(), ts=draw.choice([0, 1, 1.5, "1970-01-01T00:00:00Z"]))),
            (1, lambda: self.click("a large number", self.reader(), self.book(), value=draw.choice([1e308, -1e308, 5e-324]))),
            (1, lambda: self.click("headers of nobody's", self.reader(), self.book(), headers=(
                ("", b""), ("null", None), (RAW, self.noise(8)), ("x", b"1"), ("x", b"2"),
            ))),
            (1, structured),
            (1, binary),
        ]  # fmt: skip

    def bad(self) -> list[tuple[float, Callable[[], Sent]]]:
        """What cannot be used."""
        draw = self.draw
        plain = b'{"user_id":"reader-1","item_id":"%b","ts":1760000000000%b}'

        def raw(kind: str, reason: str, item: bytes = b"baking-1", more: bytes = b"", headers: Headers = ()) -> Sent:
            return self.broken(kind, reason, plain % (item, more), headers)

        def truncated() -> Sent:
            value = plain % (b"baking-1", b"")
            return self.broken("cut off", "value: ", value[: draw.randrange(len(value))])

        def deep() -> Sent:
            depth = draw.randrange(2_000, 20_000)
            return raw("deep", "nested too deeply", more=b',"x":' + b'{"a":' * depth + b"1" + b"}" * depth)

        def envelope(kind: str, reason: str, **fields: Any) -> Sent:
            whole = {"specversion": "1.0", "id": "1", "source": "shop", "type": "click", "time": "2025-01-01T00:00:00Z"}
            return self.broken(kind, reason, json.dumps(whole | fields).encode(), STRUCTURED)

        return [
            (4, lambda: self.broken("null", "value: null", None)),
            (4, lambda: self.broken("nothing", "value: ", b"")),
            (8, lambda: self.broken("noise", "value: ", b"\xff" + self.noise(draw.randrange(200)))),
            (6, truncated),
            (0.5, deep),
            (0.5, lambda: self.broken("deep from the start", "value: ", b"[" * draw.randrange(1, 100_000))),
            (0.05, lambda: raw("huge", "more than the 262144 accepted", more=b',"pad":"%b"' % (b"x" * 262_144))),
            (0.02, lambda: self.broken("huge noise", "more than the 262144 accepted", self.noise(600_000))),
            (4, lambda: raw("bad UTF-8 in an id", "UTF-8", item=b"\xff\xfe")),
            (2, lambda: raw("a surrogate in raw bytes", "UTF-8", item=b"\xed\xa0\x80")),
            (4, lambda: raw("a lone surrogate", "value: ", item=b"\\ud800")),
            (4, lambda: raw("a control character, escaped", "item_id: holds control characters", item=b"\\u0000")),
            (2, lambda: raw("a control character, raw", "value: ", item=b"\n")),
            (2, lambda: self.wrong("a control character of C1", "user_id: holds control characters", user_id="a\x9bb")),
            (2, lambda: self.wrong("blank", "user_id: blank", user_id=" \u2003")),
            (2, lambda: self.wrong("no name", "value: ", user_id="")),
            (2, lambda: self.wrong("too long a name", "user_id", user_id="x" * 257)),
            (2, lambda: self.wrong("too long an event", "event", event="x" * 65)),
            (4, lambda: raw("NaN", "value: ", more=b',"value":NaN')),
            (4, lambda: raw("Infinity", "value: ", more=b',"value":-Infinity')),
            (2, lambda: raw("beyond a double", "value", more=b',"value":1e999')),
            (1, lambda: raw("a number of 5,000 digits", "", more=b',"value":' + b"9" * 5_000)),
            (2, lambda: self.wrong("no time", "ts: not an RFC 3339 time", ts="yesterday")),
            (2, lambda: self.wrong("before time", "ts: outside", ts=draw.choice([-1, 10**15, 1e300, -(10**18)]))),
            (2, lambda: self.wrong("a time that overflows", "ts", ts=draw.choice(["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"]))),
            (4, lambda: self.wrong("wrong types", "value: ", **{draw.choice(["user_id", "item_id", "ts", "event", "event_id", "value"]): draw.choice([[], {}, True, ["x"]])})),
            (2, lambda: self.wrong("null where something must be", "value: ", **{draw.choice(["user_id", "item_id", "event"]): None})),
            (4, lambda: raw("a key twice", "user_id: given more than once", more=b',"user_id":"reader-2"')),
            (1, lambda: raw("a key twice, escaped", "user_id: given more than once", more=b',"us\\u0065r_id":"reader-2"')),
            (2, lambda: self.broken("fields missing", "value: ", b'{"user_id":"reader-1"}')),
            (2, lambda: self.broken("no time at all", "ts: missing", b'{"user_id":"reader-1","item_id":"baking-1"}')),
            (2, lambda: self.broken("no object", "value: ", draw.choice([b"null", b"[]", b'"x"', b"1", b"true"]))),
            (2, lambda: raw("something behind it", "value: ", more=b"} {")),
            (2, lambda: self.broken("a mark of order before it", "value: ", b"\xef\xbb\xbf" + plain % (b"baking-1", b""))),
            (2, lambda: self.broken("UTF-16", "value: ", (plain % (b"baking-1", b"")).decode().encode("utf-16"))),
            (2, lambda: raw("headers that are not UTF-8", "not UTF-8", headers=(("ce_specversion", self.noise(3) + b"\xff"),))),
            (2, lambda: raw("headers without an id", "CloudEvents headers", headers=CLOUD)),
            (1, lambda: raw("headers with too long an id", "CloudEvents headers", headers=(*CLOUD, ("ce_id", b"x" * 100_000)))),
            (1, lambda: self.broken("many headers", "value: ", b"", tuple((f"h{n}", self.noise(4)) for n in range(200)))),
            (1, lambda: self.broken("headers of nobody's", "value: ", b"{", (("", b""), ("null", None), (RAW, b"\xff"), ("kafka_dlt-original-offset", b"x"), ("strata-original-headers", b"9:0"), ("strata-original-key", b"k"), ("x", b"1"), ("x", b"2")))),
            (1, lambda: raw("an odd name of a CloudEvent's header", "CloudEvents headers", headers=(*CLOUD, (RawName("ce_\udcff"), b"1")))),
            (1, lambda: envelope("an envelope of nothing", "data: missing")),
            (1, lambda: envelope("an envelope of null", "value: ", data=None)),
            (1, lambda: envelope("an envelope with the wrong thing in it", "value: ", data=[1])),
            (1, lambda: envelope("an envelope of another version", "value: ", specversion=1, data={})),
        ]  # fmt: skip

    def on_items(self) -> list[tuple[float, Callable[[], Sent]]]:
        """Messages for the catalogue; those that can be used change nothing, so that the books stay what they are."""
        draw = self.draw

        def item(kind: str, reason: str, key: bytes | None = None, **fields: Any) -> Sent:
            book = draw.choice(BOOKS)
            value = json.dumps({"item_id": book.item_id, "title": book.title} | fields).encode()
            return Sent(kind, "items", book.item_id.encode() if key is None else key, value, (), reason)

        def broken(kind: str, reason: str, value: bytes | None, key: bytes | None = b"k") -> Sent:
            return Sent(kind, "items", key, value, (), reason)

        def gone() -> Sent:
            return Sent("withdrawn, and never there", "items", f"gone-{draw.getrandbits(20)}".encode(), None)

        return [
            (10, gone),
            (2, lambda: item("under another's key", "key: ", key=b"somebody else's")),
            (2, lambda: item("an item without a key", "key: ", key=b"")),
            (1, lambda: broken("withdrawn, by noise", "key: ", None, b"\xff\xfe\x00")),
            (2, lambda: broken("noise", "value: ", b"\xff" + self.noise(draw.randrange(200)))),
            (1, lambda: broken("deep", "value: ", b'{"item_id":"k","title":"x","y":' + b"[" * 20_000 + b"]" * 20_000 + b"}")),
            (1, lambda: item("no title", "title: empty", title=" ")),
            (1, lambda: item("too long a title", "title", title="x" * 2_001)),
            (1, lambda: item("too many tags", "tags", tags=["x"] * 65)),
            (1, lambda: item("too long a description", "description", description="x" * 20_001)),
            (1, lambda: item("a vector of nothing", "vector: ", vector=[])),
            (1, lambda: item("a vector of zeros", "vector: ", vector=[0.0] * 32)),
            (1, lambda: item("a vector of another model", "vector: ", vector=[0.5] * 31)),
            (1, lambda: item("a vector beyond numbers", "vector: ", vector=[1e308] * 32)),
            (1, lambda: item("a date of no calendar", "expires_at: ", expires_at="2025-02-30")),
            (0.01, lambda: broken("huge", "more than the 262144 accepted", self.noise(300_000))),
        ]  # fmt: skip


def _by_weight(kinds: list[tuple[float, Callable[[], Sent]]]) -> tuple[list[Callable[[], Sent]], list[float]]:
    total, cumulated = 0.0, []
    for weight, _ in kinds:
        total += weight
        cumulated.append(total)
    return [kind for _, kind in kinds], cumulated
