"""Settings as words: what a value looks like, and what a setting means."""

from __future__ import annotations

import json
from typing import Annotated, Any, get_args

from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode

Names = Annotated[frozenset[str], NoDecode]
"""Names with commas between, read by :func:`split`."""


def split(value: object) -> object:
    """The names of a setting of several; anything but a string stays as it is."""
    return frozenset(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


def meaning(field: FieldInfo) -> str:
    """The description, and the choices where there are only so many."""
    choices = ", ".join(_literals(field.annotation))
    return f"{field.description or ''} ({choices})" if choices else field.description or ""


def _literals(annotation: Any) -> list[str]:
    """The strings of every Literal in a type."""
    found: list[str] = []
    for part in get_args(annotation):
        found += [part] if isinstance(part, str) else _literals(part)
    return found


def written(value: object) -> str:
    if value is None or value == {}:
        return ""
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    if isinstance(value, dict):
        return json.dumps(value)
    return str(value)
