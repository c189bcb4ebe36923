"""The deep part: self-attention over a user's last clicks, trained online (design §7).

An item enters as what its text says and what its clicks have taught beyond that, so an item without clicks is known
from its text alone::

    x_i = W · s (v_i − μ) + e_i

with its frozen vector v_i, and e_i from a table that starts at zero. One causal layer of attention looks from the
newest click over the last 20 (Vaswani et al. 2017; Kang, McAuley 2018), a feed-forward layer follows, and the user's
state u scores an item by

    logit_i = u · x_i + b_i

Rows of e and b belong to the hash of an item's id, a fixed number of them: memory is bounded whatever is clicked, a
restart needs no table of names, and two items that share one share no more than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.histories import Histories
from models.items import ItemStore
from models.neighbours import WINDOW
from models.sequence_loops import Net, Norm, logits_of, states_of

_SCALE: Final = 2.4  # length of a centred vector as the net sees it: some .12 in each of 384 dimensions
_SLICE: Final = 1 << 12  # items whose x is worked out at a time: 13 ms of a core


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """How large the net is. A snapshot of another size is not taken over."""

    dimension: int = 64
    """Length of a state."""
    heads: int = 2
    """Of the attention."""
    slots: int = 1 << 16
    """Rows of the table of what clicks have taught of items."""


class SequenceNet(nn.Module):  # type: ignore[misc]
    """The network.

    Parameters
    ----------
    vectors
        Length of an item's vector.

    Attributes
    ----------
    mean, scale
        μ and s; set by :meth:`centre`.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, vectors: int, config: SequenceConfig = SequenceConfig()) -> None:
        super().__init__()
        d = config.dimension
        self.heads = config.heads
        self.register_buffer("mean", torch.zeros(vectors))
        self.register_buffer("scale", torch.tensor(_SCALE))
        self.text = nn.Linear(vectors, d, bias=False)
        self.items = nn.Embedding(config.slots, d, sparse=True)
        self.bias = nn.Embedding(config.slots, 1, sparse=True)
        nn.init.zeros_(self.items.weight)
        nn.init.zeros_(self.bias.weight)
        # place 0 is nobody's click, so that who has no history has a state, too
        self.start = nn.Parameter(torch.randn(d) * 0.02)
        self.places = nn.Parameter(torch.randn(WINDOW + 1, d) * 0.02)
        self.before, self.between, self.after = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(d)
        self.query, self.look = nn.Linear(d, d, bias=False), nn.Linear(d, 2 * d, bias=False)
        self.mix = nn.Linear(d, d)
        self.feed = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))
        self.drop = nn.Dropout(0.1)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def centre(self, vectors: torch.Tensor, *, keep: bool = False) -> None:
        """Fix μ and s by the catalogue [n, vectors] as it is now.

        Parameters
        ----------
        keep
            The net says of described items what it said before: W takes up the new s, and the places of the clicks
            what moved with μ (among candidates it is the same for all, which no ranking sees).
        """
        mean = vectors.mean(0)
        scale = _SCALE / max(float((vectors - mean).norm(dim=1).mean()), 1e-6)
        if keep:
            self.places[1:] += self.text((mean - self.mean) * self.scale)
            self.text.weight *= self.scale / scale
        self.mean.copy_(mean)
        self.scale.fill_(scale)

    def embed(self, vectors: torch.Tensor, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x [n, d] and b [n, 1] of items from their vectors [n, v] and slots int64 [n]."""
        return self.text((vectors - self.mean) * self.scale) + self.items(slots), self.bias(slots)

    def forward(self, clicks: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """States of users, [b, d].

        Parameters
        ----------
        clicks : float32 [b, K, d]
            x of the last clicks, newest first.
        there : bool [b, K]
            False past a user's last.
        """
        b, _, d = clicks.shape
        x = torch.cat([self.start.expand(b, 1, d), torch.where(there[..., None], clicks, 0.0)], dim=1)
        x = x + self.places[: x.shape[1]]
        newest = there[:, :1].long()
        y = self.before(x)
        first = newest[:, :, None].expand(b, 1, d)
        query, key, value = (
            made.reshape(b, -1, self.heads, d // self.heads).transpose(1, 2)
            for made in (self.query(y.gather(1, first)), *self.look(y).chunk(2, dim=2))
        )
        seen = torch.cat([torch.ones_like(there[:, :1]), there], dim=1)[:, None, None, :]
        looked = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        state = x.gather(1, first)[:, 0] + self.drop(self.mix(looked.transpose(1, 2).reshape(b, d)))
        made: torch.Tensor = self.after(state + self.drop(self.feed(self.between(state))))
        return made


def _reader(net: SequenceNet) -> Net:
    """A net that is trained no more: what its :meth:`SequenceNet.forward` gives, in a third of the time.

    A state looks back from one place alone. So neither keys nor values of the places are worked out, and as both, the
    queries and what becomes of the values are linear, they come in two products, with the heads side by side::

        (W_k y_j) · (W_q y) = y_j · (W_kᵀ W_q) y        W_mix Σ_j a_j W_v y_j = (W_mix W_v) Σ_j a_j y_j
    """
    d, heads = net.start.shape[0], net.heads
    with torch.no_grad():
        key, value = net.look.weight.view(2, heads, d // heads, d)
        query, mix = net.query.weight.view(heads, d // heads, d), net.mix.weight.T.reshape(heads, d // heads, d)
        ask = (query.transpose(1, 2) @ key * (d // heads) ** -0.5).transpose(0, 1).reshape(d, heads * d)
        draw = (value.transpose(1, 2) @ mix).reshape(heads * d, d)
    wide, _, narrow = net.feed
    return Net(
        start=_array(net.start),
        places=_array(net.places),
        ask=_array(ask),
        draw=_array(draw),
        mixed=_array(net.mix.bias),
        wide=_array(wide.weight.T),
        wide_bias=_array(wide.bias),
        narrow=_array(narrow.weight.T),
        narrow_bias=_array(narrow.bias),
        before=_norm(net.before),
        between=_norm(net.between),
        after=_norm(net.after),
    )


def _norm(norm: nn.LayerNorm) -> Norm:
    return Norm(_array(norm.weight), _array(norm.bias), norm.eps)


def _array(parameter: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(parameter.detach().numpy())


class SequenceScorer:
    """What the net says of candidates: the reader's side.

    Parameters
    ----------
    items
        The reader's catalogue.

    Attributes
    ----------
    version : int
        Clicks that the net in use has been trained on; 0: there is none, and nothing is said.
    """

    def __init__(self, items: ItemStore, config: SequenceConfig = SequenceConfig()) -> None:
        self.items = items
        self.config = config
        self.version = 0
        self._net: SequenceNet | None = None  # in use
        self._reader: Net | None = None  # of it
        self._next: tuple[SequenceNet, int] | None = None
        self._queued: tuple[SequenceNet, int] | None = None
        self._known: NDArray[np.float32] = np.zeros((0, config.dimension + 1), np.float32)
        self._coming = self._known
        self._done = 0
        self._stale: set[int] = set()
        self._late: set[int] = set()  # changed after the net that comes had worked them out

    def put(self, net: SequenceNet, version: int) -> None:
        """Take over a net: in use once :meth:`follow` has worked out all items with it.

        While another one is being worked out, the newest waits: or of a large catalogue none would ever be ready.
        """
        self._queued = (net.eval(), version)

    @property
    def pending(self) -> bool:
        """Whether a net is not in use yet that :meth:`put` brought."""
        return self._next is not None or self._queued is not None

    def changed(self, rows: set[int]) -> None:
        """The vectors of these items changed."""
        self._stale |= rows
        if self._next is not None:
            self._late |= rows

    def follow(self) -> None:
        """Work out some of what is new; cheap when nothing is."""
        n = len(self.items)
        if self._next is None and self._queued is not None:
            self._next, self._queued, self._done = self._queued, None, 0
            self._coming = np.zeros((max(1024, n), self.config.dimension + 1), np.float32)
            self._late.clear()
        if self._next is not None:
            net, version = self._next
            end = min(n, self._done + _SLICE)
            self._coming = _room(self._coming, n)
            self._coming[self._done : end] = self._embedded(net, np.arange(self._done, end))
            self._done = end
            if end == n:
                self._net, self._reader, self.version, self._known = net, _reader(net), version, self._coming
                self._next = None
                self._stale, self._late = self._late, set()
        if self._net is not None and (self._stale or len(self._known) < n):
            self._known = _room(self._known, n)
            rows = np.fromiter(self._stale, np.int64, len(self._stale))
            self._stale.clear()
            self._known[rows] = self._embedded(self._net, rows)

    def scores(self, histories: Histories, rows: NDArray[np.int64], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """exp(logit − the largest of the user's candidates), float32 [b, m]; 0 where not valid, or nothing is known.

        Parameters
        ----------
        rows : int64 [b, m]
        valid : bool [b, m]
            Candidates to say something of.
        """
        if self._reader is None:
            return np.zeros(rows.shape, np.float32)
        states = states_of(histories.rows, histories.counts, self._known, self._reader)
        logits = logits_of(states, rows, valid, self._known)
        scores: NDArray[np.float32] = np.exp(logits, out=logits)
        return scores

    def _embedded(self, net: SequenceNet, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """x and b of items side by side, float32 [rows, d + 1]."""
        with torch.inference_mode():
            made: NDArray[np.float32] = torch.cat(net.embed(*inputs_of(self.items, rows, net)), dim=1).numpy()
        return made


def inputs_of(items: ItemStore, rows: NDArray[np.integer], net: SequenceNet) -> tuple[torch.Tensor, torch.Tensor]:
    """What :meth:`SequenceNet.embed` takes of items: vectors (μ where there is none, which says nothing), and slots."""
    vectors = torch.from_numpy(items.vectors[rows])
    vectors[~torch.from_numpy(items.encoded[rows])] = net.mean
    slots = (items.hashes[rows] % np.uint64(net.items.num_embeddings)).astype(np.int64)
    return vectors, torch.from_numpy(slots)


def _room(table: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """The table with room for ``n`` rows."""
    if len(table) >= n:
        return table
    grown = np.zeros((max(n, 2 * len(table)), table.shape[1]), np.float32)
    grown[: len(table)] = table
    return grown
