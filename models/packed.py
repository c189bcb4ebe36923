"""A BERT over many texts at once without padding: one row of tokens, each text attending to itself alone.

The texts stand one after the other, sorted by length, with positions that restart; everything in a transformer but
its attention works token by token and needs no more. The attention is swapped through transformers' own
``AttentionInterface``, so that the model itself stays as it is:

* ``strata_runs``: one unmasked scaled dot-product attention for each run of equally long texts (CPU, and fp32 on CUDA);
* ``strata_varlen``: ``torch.nn.attention.varlen.varlen_attn`` over the texts' boundaries (bf16 on CUDA).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

RUNS: Final = "strata_runs"
VARLEN: Final = "strata_varlen"


class Run(NamedTuple):
    """Texts of one length that stand beside each other."""

    start: int
    """First token."""
    texts: int
    """How many."""
    length: int
    """Tokens of each."""

    @property
    def end(self) -> int:
        """One past the last token."""
        return self.start + self.texts * self.length


def runs_of(lengths: NDArray[np.int64]) -> list[Run]:
    """The runs of equal neighbours in ``lengths``, int64 [texts], sorted."""
    edges = np.flatnonzero(np.diff(lengths, prepend=-1, append=-1))
    starts = np.concatenate(([0], np.cumsum(lengths)))
    return [Run(int(starts[a]), int(b - a), int(lengths[a])) for a, b in pairwise(edges)]


def register() -> None:
    """Make both attentions known to transformers; doing it again changes nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(RUNS, _attend_runs)
    AttentionInterface.register(VARLEN, _attend_varlen)


def token_vectors(
    model: Any, texts: Sequence[NDArray[np.int32]], first_position: int, device: str
) -> tuple[Tensor, list[Run]]:
    """Run the model over the texts.

    Parameters
    ----------
    model
        Loaded with ``attn_implementation`` one of :data:`RUNS`, :data:`VARLEN`.
    texts
        int32 ids of each, special tokens included, sorted by length.
    first_position
        Position id of a text's first token: 0 for BERT, padding_idx + 1 for RoBERTa.

    Returns
    -------
    [tokens, dimension] in the model's precision, and the runs that say which text is where.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    runs = runs_of(lengths)
    starts = np.cumsum(lengths) - lengths
    positions = np.arange(first_position, first_position + int(lengths.sum())) - np.repeat(starts, lengths)
    ids = np.concatenate(texts).astype(np.int64)
    extra: dict[str, Any] = {"runs": runs}
    if device != "cpu":
        boundaries = np.append(starts, lengths.sum()).astype(np.int32)
        extra |= {"boundaries": torch.from_numpy(boundaries).to(device), "longest": int(lengths.max())}
    output = model(
        input_ids=torch.from_numpy(ids)[None].to(device),
        position_ids=torch.from_numpy(positions)[None].to(device),
        **extra,
    )
    return output.last_hidden_state[0], runs


def _attend_runs(
    _module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    scaling: float | None = None,
    runs: Sequence[Run],
    **_: Any,
) -> tuple[Tensor, None]:
    """query, key, value [1, heads, tokens, d] → [1, tokens, heads, d]."""
    sizes = [run.texts * run.length for run in runs]
    parts = []
    for run, *qkv in zip(runs, *(x[0].transpose(0, 1).split(sizes) for x in (query, key, value)), strict=True):
        # [tokens, heads, d] → [texts, heads, length, d], all of it views
        q, k, v = (x.unflatten(0, (run.texts, run.length)).transpose(1, 2) for x in qkv)
        parts.append(scaled_dot_product_attention(q, k, v, scale=scaling).transpose(1, 2).flatten(0, 1))
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[None], None


def _attend_varlen(
    _module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    scaling: float | None = None,
    boundaries: Tensor,
    longest: int,
    **_: Any,
) -> tuple[Tensor, None]:
    """query, key, value [1, heads, tokens, d] → [1, tokens, heads, d]."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return varlen_attn(q, k, v, boundaries, boundaries, longest, longest, scale=scaling)[None], None
