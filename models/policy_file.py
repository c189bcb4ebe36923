"""The policy as a person writes it: TOML in, rules out, and for what is wrong the line and the reason.

::

    diversity = 0.2
    blocked_categories = ["Tobacco"]
    blocked_labels = ["adult"]
    blocked_items = ["sku-13"]

    [repeat_after]          # seconds, by event kind
    purchase = 86400

    [category_caps]         # items of a category in a list, at most
    "*" = 4
    Shoes = 2

    [users.ann]
    blocked_labels = ["alcohol"]

    [fatigue]               # shown so often within so many seconds, and not clicked since
    after = 5
    for = 86400

    [[boosts]]              # category, tag or item
    name = "summer"
    tag = "summer"
    add = 0.3
    from = 2027-06-01T00:00:00Z
    until = 2027-09-01T00:00:00Z

    [[pins]]
    name = "launch"
    item = "sku-7"
    place = 1
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from bisect import bisect_left
from typing import Any, Final

import msgspec

from models.errors import ConfigurationError
from models.policy import MOST_RULES, Blocked, Boost, Fatigue, Pin, Places, Policy, Seconds, Share

At = tuple[str | int, ...]
"""Where in the file: names of tables and keys, and numbers in arrays of tables."""

_BLOCKED: Final = Blocked.__struct_fields__
_KEYS: Final = (*_BLOCKED, *(name for name in Policy.__struct_fields__ if name != "blocked"))


class _Wrong(Exception):
    def __init__(self, at: At, reason: str) -> None:
        super().__init__(reason)
        self.at = at


def parse(text: str) -> Policy:
    """The rules of a file.

    Raises
    ------
    ConfigurationError
        With the line and what is wrong there.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"not TOML: {error}") from None
    except (RecursionError, ValueError) as error:  # limits of the interpreter, not of TOML
        what = "a number of too many digits to be read: give a shorter one"
        if isinstance(error, RecursionError):
            what = "nested too deeply to be read: no rule needs more than three brackets in one another"
        raise ConfigurationError(f"line {_unreadable(text)}: {what}") from None
    try:
        return _policy(raw)
    except _Wrong as wrong:
        line = _line(text, wrong.at)
        named = ".".join(map(str, wrong.at))
        raise ConfigurationError(f"line {line}: {named}: {wrong}" if line else f"{named}: {wrong}") from None


def _unreadable(text: str) -> int:
    """The line, counted from 1, that the parser cannot bear: up to the one before, it misses an end at most."""
    lines = text.split("\n")

    def fails(count: int) -> bool:
        try:
            tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            return False
        except (RecursionError, ValueError):
            return True
        return False

    return 1 + bisect_left(range(1, len(lines)), True, key=fails)


def _policy(raw: dict[str, Any]) -> Policy:
    for key in raw:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            raise _Wrong((key,), f"no such rule{f'; did you mean {near[0]}?' if near else ''}")
    boosts, pins = (_rules(raw, key, kind) for key, kind in (("boosts", Boost), ("pins", Pin)))
    for number, boost in enumerate(boosts):
        if sum(target is not None for target in (boost.category, boost.tag, boost.item)) != 1:
            raise _Wrong(("boosts", number), "give one of category, tag and item")
    return Policy(
        repeat_after=_each(raw, "repeat_after", Seconds) if "repeat_after" in raw else None,
        diversity=_one(raw["diversity"], Share, ("diversity",)) if "diversity" in raw else None,
        blocked=Blocked(**{key: _one(raw[key], frozenset[str], (key,)) for key in _BLOCKED if key in raw}),
        users=_each(raw, "users", Blocked),
        category_caps=_each(raw, "category_caps", Places),
        fatigue=_one(raw["fatigue"], Fatigue, ("fatigue",)) if "fatigue" in raw else None,
        boosts=boosts,
        pins=pins,
    )


def _one(value: Any, kind: Any, at: At) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise _Wrong(at, f"{value} is no number to count with")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        named = re.findall(r"\w+", path)[:1] or re.findall(r"unknown field `(.+)`", reason)
        raise _Wrong((*at, *named), reason) from None


def _each(raw: dict[str, Any], key: str, kind: Any) -> dict[str, Any]:
    """A table whose keys are names."""
    table = _one(raw.get(key, {}), dict[str, Any], (key,))
    return {name: _one(value, kind, (key, name)) for name, value in table.items()}


def _rules(raw: dict[str, Any], key: str, kind: Any) -> tuple[Any, ...]:
    """An array of tables, each with a name of its own."""
    tables = _one(raw.get(key, []), list[Any], (key,))
    if len(tables) > MOST_RULES:
        raise _Wrong((key, MOST_RULES), f"{len(tables)} are too many: at most {MOST_RULES}")
    rules, names = [], set()
    for number, table in enumerate(tables):
        for name, value in table.items() if isinstance(table, dict) else ():
            if isinstance(value, float) and not math.isfinite(value):
                raise _Wrong((key, number, name), f"{value} is no number to count with")
        rule = _one(table, kind, (key, number))
        if rule.name in names:
            raise _Wrong((key, number, "name"), f"{rule.name!r} is the name of another one")
        if rule.since and rule.until and rule.until <= rule.since:
            raise _Wrong((key, number, "until"), "ends before it begins")
        names.add(rule.name)
        rules.append(rule)
    return tuple(rules)


def _line(text: str, at: At) -> int:
    """The line where a key stands, or else its table, counted from 1; 0 if it is written in a way not looked for."""
    table: At = ()
    arrays: dict[str | int, int] = {}
    header = found = 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            names = _names(stripped)
            if names and stripped.startswith("[["):
                arrays[names[0]] = arrays.get(names[0], -1) + 1
                names = (*names, arrays[names[0]])
            table = names or table
            if table == at[: len(table)] and len(table) > header:
                header, found = len(table), number
        elif "=" in stripped:
            names = table + _names(stripped.partition("=")[0] + "= 0")
            if len(names) > len(table) and names == at[: len(names)] and len(names) > header:
                header, found = len(names), number
    return found


def _names(line: str) -> At:
    """The names in a header or before an equals sign: TOML itself tells them apart."""
    names: list[str] = []
    try:
        inner: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    while isinstance(inner, dict) and inner:
        name, inner = next(iter(inner.items()))
        names.append(name)
        inner = inner[0] if isinstance(inner, list) else inner
    return tuple(names)
