"""A BERT over many texts at once without padding: one row of tokens, each text attending to itself alone.

The texts stand one after the other, sorted by length, with positions that restart; everything in a transformer but
its attention works token by token and needs no more. The attention is swapped through transformers' own
``AttentionInterface``, so that the model itself stays as it is:

* ``strata_blocks``: scaled dot-product attention for each group of texts of about one length, filled up to a multiple
  of :data:`STEP` and masked, for the attention alone (CPU, and fp32 on CUDA). What it computes in vain is little
  of the arithmetic, and a call for each length that occurs takes longer;
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

BLOCKS: Final = "strata_blocks"
VARLEN: Final = "strata_varlen"

STEP: Final = 16
"""Texts are filled up to multiples of so many tokens. By a text's length alone, so that its vector does not depend on
what stands beside it."""


class Blocks(NamedTuple):
    """Texts of one row of tokens, as blocks of equal length."""

    filled: Tensor
    """int64 [filled tokens], the token at each place; a text's own first where it is filled up."""
    kept: Tensor
    """int64 [tokens], where each token is among the filled ones."""
    shapes: list[tuple[int, int]]
    """Of each block: texts, and tokens of each."""
    masks: list[Tensor]
    """Of each block: [texts, 1, 1, tokens of each], 0 or, for what was filled up, -inf; in the model's precision."""

    @classmethod
    def of(cls, lengths: NDArray[np.int64], dtype: torch.dtype, device: str) -> Blocks:
        """The blocks of texts of these lengths, int64 [texts], sorted."""
        starts = np.cumsum(lengths) - lengths
        full = -(-lengths // STEP) * STEP
        places = np.arange(int(full.sum())) - np.repeat(np.cumsum(full) - full, full)  # within its text
        own = places < np.repeat(lengths, full)
        filled = np.repeat(starts, full) + np.where(own, places, 0)
        edges = np.flatnonzero(np.diff(full, prepend=-1, append=-1))
        shapes = [(int(b - a), int(full[a])) for a, b in pairwise(edges)]
        mask = torch.from_numpy(np.where(own, np.float32(0), np.float32(-np.inf))).to(device, dtype)
        sizes = [texts * length for texts, length in shapes]
        masks = [m.view(texts, 1, 1, length) for m, (texts, length) in zip(mask.split(sizes), shapes, strict=True)]
        at, kept = (torch.from_numpy(x).to(device) for x in (filled, np.flatnonzero(own)))
        return cls(at, kept, shapes, masks)


def register() -> None:
    """Make both attentions known to transformers; doing it again changes nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(BLOCKS, _attend_blocks)
    AttentionInterface.register(VARLEN, _attend_varlen)


def token_vectors(model: Any, texts: Sequence[NDArray[np.int32]], first_position: int, device: str) -> Tensor:
    """Run the model over the texts.

    Parameters
    ----------
    model
        Loaded with ``attn_implementation`` one of :data:`BLOCKS`, :data:`VARLEN`.
    texts
        int32 ids of each, special tokens included, sorted by length.
    first_position
        Position id of a text's first token: 0 for BERT, padding_idx + 1 for RoBERTa.

    Returns
    -------
    [tokens, dimension] in the model's precision, the texts one after the other.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    starts = np.cumsum(lengths) - lengths
    positions = np.arange(first_position, first_position + int(lengths.sum())) - np.repeat(starts, lengths)
    ids = np.concatenate(texts).astype(np.int64)
    extra: dict[str, Any] = {}
    if model.config._attn_implementation == VARLEN:
        boundaries = np.append(starts, lengths.sum()).astype(np.int32)
        extra |= {"boundaries": torch.from_numpy(boundaries).to(device), "longest": int(lengths.max())}
    else:
        extra["blocks"] = Blocks.of(lengths, model.dtype, device)
    output = model(
        input_ids=torch.from_numpy(ids)[None].to(device),
        position_ids=torch.from_numpy(positions)[None].to(device),
        **extra,
    )
    return output.last_hidden_state[0]


def _attend_blocks(
    _module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    scaling: float | None = None,
    blocks: Blocks,
    **_: Any,
) -> tuple[Tensor, None]:
    """query, key, value [1, heads, tokens, d] → [1, tokens, heads, d]."""
    heads, d = query.shape[1], query.shape[3]
    filled = [x[0].transpose(0, 1).index_select(0, blocks.filled) for x in (query, key, value)]
    parts = []
    start = 0
    for (texts, length), mask in zip(blocks.shapes, blocks.masks, strict=True):
        end = start + texts * length
        q, k, v = (x[start:end].view(texts, length, heads, d).transpose(1, 2) for x in filled)
        attended = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
        parts.append(attended.transpose(1, 2).reshape(-1, heads, d))
        start = end
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).index_select(0, blocks.kept)[None], None


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
