"""A data set on disk: a folder that holds a catalogue and the clicks on it.

- ``items.jsonl.gz``: one JSON object a line, as on the topic ``items``;
- ``clicks.jsonl.gz``: one JSON object a line, as on the topic ``clicks``, sorted by ``ts``.

Both go through the decoders of :mod:`models.events`, so a data set is judged as the topics are.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from models.errors import ConfigurationError, InvalidEvent
from models.events import Click, Item, decode_click, decode_item

ITEMS = "items.jsonl.gz"
CLICKS = "clicks.jsonl.gz"

_CHUNK = 20_000  # lines written at once

_json = msgspec.json.Encoder()
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A folder with :data:`ITEMS` and :data:`CLICKS`.

    Raises
    ------
    ConfigurationError
        If a file is missing, or a line of it is not what it should be (the message names file and line).
    """

    folder: Path

    def __post_init__(self) -> None:
        for name in (ITEMS, CLICKS):
            if not (self.folder / name).is_file():
                raise ConfigurationError(
                    f"{self.folder} is no data set: {name} is missing; it holds {ITEMS} and {CLICKS}"
                )

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def items(self) -> Iterator[Item]:
        """The catalogue, in the order of the file."""
        return _read(self.folder / ITEMS, decode_item)

    def clicks(self, limit: int | None = None) -> Iterator[Click]:
        """The clicks, oldest first; at most ``limit``."""
        return _read(self.folder / CLICKS, decode_click, limit)


def write(folder: Path, items: Iterable[dict[str, Any]], clicks: Iterable[dict[str, Any]]) -> Dataset:
    """Write a data set; the folder appears whole or not at all.

    Parameters
    ----------
    items, clicks
        JSON objects with the fields of :class:`~models.events.Item` and :class:`~models.events.Click`.
    """
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")  # another process may write the same one
    partial.mkdir(parents=True, exist_ok=True)
    for name, lines in ((ITEMS, items), (CLICKS, clicks)):
        # level 1: a second instead of ten for a million clicks; no time in the header: the same data, the same bytes
        with gzip.GzipFile(partial / name, "wb", compresslevel=1, mtime=0) as file:
            rest = iter(lines)
            while chunk := list(islice(rest, _CHUNK)):
                file.write(_json.encode_lines(chunk))
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        for name in (ITEMS, CLICKS):
            (partial / name).replace(folder / name)
        partial.rmdir()
    return Dataset(folder)


def _read(path: Path, decode: Callable[[bytes], _T], limit: int | None = None) -> Iterator[_T]:
    with gzip.open(path) as file:
        for number, line in enumerate(file, 1):
            if limit is not None and number > limit:
                return
            try:
                yield decode(line)
            except InvalidEvent as error:
                raise ConfigurationError(f"{path}, line {number}: {error}") from None
