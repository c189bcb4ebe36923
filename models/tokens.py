"""Token ids of texts, and of histories without reading a text again.

An item's text is tokenised once; its ids travel with its vector. A user's input is then put together from the ids of
his items, in 5 µs instead of the 135 that the tokenizer needs, and is id for id what the tokenizer
makes of the joined text: :class:`Tokenizer` proves that on a probe set before it accepts a model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError

Tokens = NDArray[np.int32]

# What stands before a text, and what stands between two: the first pair that joins safely is taken. A full stop is a
# word of its own to WordPiece; SentencePiece needs a space before it to see one; byte-level BPE needs, beyond that,
# every text to begin with a space, since a word inside a sentence has other ids than one at its start.
_JOINTS: Final = (("", ". "), ("", " . "), (" ", " ."))

_PROBES: Final = (
    "milk",
    "Wool socks, size 9-11",
    "ends with a stop.",
    "...",
    "!",
    "100% Crème brûlée (6 × 90 g)",
    "'s",
    "##ing",
    "ﬁne ½ TM™",
    "日本茶 緑茶",
    "naïve ́ ",
    "a" * 120,
    "[SEP] <s>",
    "-",
    "🎁 gift",
    "3.5",
)


def join_tokens(items: Sequence[Tokens], start: Tokens, separator: Tokens, end: Tokens, limit: int) -> Tokens:
    """One input for the model: start, the items with the separator between them, end.

    Parameters
    ----------
    items
        int32 ids of each item, newest first. An item without ids is left out with its separator.
    start, separator, end
        int32 ids; for BERT ``[CLS]``, ``. `` and ``[SEP]``.
    limit
        Longest result. What is beyond it is cut from the tail, the end marker kept, as the tokenizer does.

    Returns
    -------
    int32 [at most limit]
    """
    room = limit - len(start) - len(end)
    pieces: list[Tokens] = [start]
    taken = 0
    for ids in items:
        if len(ids) == 0:
            continue
        if taken:
            pieces.append(separator)
            taken += len(separator)
        pieces.append(ids)
        taken += len(ids)
        if taken >= room:
            break
    if taken <= room:
        pieces.append(end)
        return np.concatenate(pieces, dtype=np.int32)
    return np.concatenate([np.concatenate(pieces, dtype=np.int32)[: len(start) + room], end], dtype=np.int32)


class Tokenizer:
    """A model's own tokenizer, and how its ids may be joined.

    Parameters
    ----------
    path
        Folder of the model: ``tokenizer.json``, or what transformers makes a fast tokenizer from.
    limit
        Longest input of the model in tokens, special tokens included.

    Attributes
    ----------
    start, end : int32 [1] mostly
        What stands around every input.
    lead : str
        Put before every text (a space where a word inside a sentence has other ids than one at its start).
    joint : str
        The text between two items; ``separator`` are its ids.

    Raises
    ------
    ModelError
        If there is no such tokenizer, or its ids cannot be joined without changing those of the joined text.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._backend = _backend(path)
        self._backend.no_padding()
        self._backend.no_truncation()
        self.limit = limit
        self.start, self.end = self._around()
        self._body = limit - len(self.start) - len(self.end)
        if self._body < 1:
            raise ModelError(f"max_tokens {limit} leaves no room for a text: set at least {limit + 1 - self._body}")
        for self.lead, self.joint in _JOINTS:
            separator = self._separator()
            if separator is not None and self._joins(separator):
                self.separator: Tokens = separator
                break
        else:
            raise ModelError(
                f"the tokenizer of {path} gives a text other ids inside a longer one, whatever stands between them, "
                "so that histories cannot be put together from items: choose a model with a WordPiece, SentencePiece "
                "or byte-level BPE tokenizer"
            )
        # an item's ids beyond this never reach the model, however short its history
        self._backend.enable_truncation(self._body)

    def ids(self, texts: Sequence[str]) -> list[Tokens]:
        """int32 ids of each text without special tokens, at most as many as one input holds."""
        return [np.array(ids, np.int32) for ids in self._encode([self.lead + text.strip() for text in texts])]

    def join(self, items: Sequence[Tokens]) -> Tokens:
        """The model's input for a history: ids of its items, newest first. See :func:`join_tokens`."""
        return join_tokens(items, self.start, self.separator, self.end, self.limit)

    def joined_text(self, texts: Sequence[str]) -> str:
        """The text whose tokenisation :meth:`join` of the texts' ids equals: for whoever wants to check or compare."""
        legible = [text.strip() for text, ids in zip(texts, self.ids(texts), strict=True) if len(ids)]
        return self.lead + (self.joint + self.lead).join(legible)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        try:
            encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):  # a lone surrogate is no character; "?" stands in for it
            texts = [text.encode("utf-8", "replace").decode() for text in texts]
            encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    def _around(self) -> tuple[Tokens, Tokens]:
        whole = self._backend.encode(_PROBES[0], add_special_tokens=True).ids
        body = self._encode([_PROBES[0]])[0]
        for at in range(len(whole) - len(body) + 1):
            if whole[at : at + len(body)] == body:
                return np.array(whole[:at], np.int32), np.array(whole[at + len(body) :], np.int32)
        raise ModelError("the tokenizer changes a text when it adds its special tokens: choose another model")

    def _separator(self) -> Tokens | None:
        left, right = self.lead + "one", self.lead + "two"
        a, b, whole = self._encode([left, right, left + self.joint + right])
        if whole[: len(a)] != a or whole[len(whole) - len(b) :] != b or len(whole) <= len(a) + len(b):
            return None
        return np.array(whole[len(a) : len(whole) - len(b)], np.int32)

    def _joins(self, separator: Tokens) -> bool:
        probes = [probe.strip() for probe in _PROBES]
        single = self._encode([self.lead + probe for probe in probes])
        pairs = list(permutations(range(len(probes)), 2))
        joined = self._encode([self.lead + probes[i] + self.joint + self.lead + probes[j] for i, j in pairs])
        between = separator.tolist()
        return all(whole == single[i] + between + single[j] for (i, j), whole in zip(pairs, joined, strict=True))


def _backend(path: Path) -> Any:
    import tokenizers

    file = path / "tokenizer.json"
    if file.is_file():
        return tokenizers.Tokenizer.from_file(str(file))
    from transformers import AutoTokenizer

    try:
        slow = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
    except (OSError, ValueError, ImportError, json.JSONDecodeError) as error:
        raise ModelError(f"no tokenizer in {path}: {error}; save the model's own beside its weights") from error
    backend = getattr(slow, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(f"the tokenizer in {path} has no fast form; save a tokenizer.json beside the weights")
    return tokenizers.Tokenizer.from_str(backend.to_str())
