"""SASRec: self-attention over a user's last clicks, small, trained further at intervals.

Kang, McAuley, Self-attentive sequential recommendation, ICDM 2018; with a softmax over drawn negatives in place of one
negative, and its logQ correction, since that is what makes SASRec strong (Klenitskiy, Vasilev, RecSys 2023).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ops.peers.protocol import HISTORY, Questions, positive
from ops.peers.refitted import Refitted

_BATCH: Final = 64  # users of a training step
_DRAWN: Final = 128  # items that compete with the clicked one
_HEADS: Final = 2


class SASRec(Refitted):
    """The next item from the order of the last ones.

    Parameters
    ----------
    dimension
        Of item embeddings and layers.
    blocks
        Attention blocks.
    dropout
        While training.
    rate
        Learning rate of Adam.
    steps
        Training steps at a refit, which goes on from the last weights; each on the last 50 clicks of 64 users, drawn
        from those of the newest clicks.
    recent
        Newest clicks that users are drawn from.
    """

    def __init__(
        self,
        items: int,
        *,
        dimension: int = 64,
        blocks: int = 2,
        dropout: float = 0.2,
        rate: float = 1e-3,
        steps: int = 100,
        recent: int = 50_000,
        every: int = 10_000,
        seed: int = 7,
    ) -> None:
        super().__init__(items, every=every)
        positive(dimension=dimension, blocks=blocks, rate=rate, steps=steps, recent=recent)
        self.steps = steps
        self.recent = recent
        self._draw = np.random.default_rng(seed)
        self._generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._net = _Net(items, dimension, blocks, dropout)
        self._optimiser = torch.optim.Adam(self._net.parameters(), lr=rate)

    def fit(self, users: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Some steps more."""
        order = np.argsort(users, kind="stable")
        sequence, ends = rows[order], np.searchsorted(users[order], np.arange(int(users.max()) + 1), side="right")
        starts = np.concatenate([[0], ends[:-1]])
        counts = np.bincount(rows, minlength=self.items).astype(np.float64)
        share = counts / counts.sum()
        log_share = torch.from_numpy(np.log(np.maximum(share, 1e-12)).astype(np.float32))
        newest = users[-self.recent :]
        self._net.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(self._draw.integers(2**31)))  # dropout
            for _ in range(self.steps):
                drawn = self._draw.choice(newest, _BATCH)
                batch = np.full((_BATCH, HISTORY + 1), -1, np.int64)
                for i, user in enumerate(drawn.tolist()):
                    end = int(self._draw.integers(starts[user], ends[user])) + 1 if i % 2 else int(ends[user])
                    part = sequence[max(int(starts[user]), end - HISTORY - 1) : end]
                    batch[i, : len(part)] = part
                negatives = self._draw.choice(self.items, _DRAWN, p=share)
                self._step(torch.from_numpy(batch), torch.from_numpy(negatives), log_share)
        self._net.eval()

    def scores(self, questions: Questions) -> NDArray[np.float32]:
        """State after the last click · item embeddings; nothing to say of an item that nobody clicked."""
        b, lengths = len(questions), (questions.histories >= 0).sum(axis=1)
        at = lengths[:, None] - 1 - np.arange(HISTORY)
        oldest_first = np.take_along_axis(questions.histories, np.maximum(at, 0), axis=1)
        inputs = torch.from_numpy(np.where(at >= 0, oldest_first, -1))
        with torch.inference_mode():
            state = self._net(inputs)[torch.arange(b), torch.from_numpy(np.maximum(lengths - 1, 0))]
            scores: NDArray[np.float32] = (state @ self._net.items.weight[:-1].T).numpy()
        scores[:, ~self.clicked] = -np.inf
        return scores

    def _step(self, batch: torch.Tensor, negatives: torch.Tensor, log_share: torch.Tensor) -> None:
        inputs, targets = batch[:, :-1], batch[:, 1:]
        taught = (inputs >= 0) & (targets >= 0)
        if not bool(taught.any()):
            return
        states, wanted = self._net(inputs)[taught], targets[taught]
        embeddings = self._net.items.weight
        own = (states * embeddings[wanted]).sum(1) - log_share[wanted]
        others = states @ embeddings[negatives].T - log_share[negatives]
        others = others.masked_fill(negatives == wanted[:, None], -1e9)
        loss = torch.nn.functional.cross_entropy(
            torch.cat([own[:, None], others], dim=1), torch.zeros(len(wanted), dtype=torch.long)
        )
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()


class _Net(nn.Module):  # type: ignore[misc]
    """Causal self-attention over clicks that begin at the left: padding stands behind, where nobody looks."""

    def __init__(self, items: int, dimension: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.items = nn.Embedding(items + 1, dimension, padding_idx=items)
        self.places = nn.Embedding(HISTORY, dimension)
        for table in (self.items, self.places):
            nn.init.normal_(table.weight, std=dimension**-0.5)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(_Block(dimension, dropout) for _ in range(blocks)))
        self.norm = nn.LayerNorm(dimension)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """States after each click, [b, K, d]; inputs [b, K] oldest first, -1 past the last."""
        there = inputs >= 0
        rows = torch.where(there, inputs, self.items.padding_idx)
        # a place is told by how many clicks come after it, so that the newest is always 0
        after = (there.sum(1, keepdim=True) - 1 - torch.arange(inputs.shape[1])).clamp(min=0)
        return self.norm(self.blocks(self.drop(self.items(rows) + self.places(after))))


class _Block(nn.Module):  # type: ignore[misc]
    def __init__(self, dimension: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(dimension), nn.LayerNorm(dimension)
        self.attend = nn.Linear(dimension, 3 * dimension)
        self.mix = nn.Linear(dimension, dimension)
        self.feed = nn.Sequential(nn.Linear(dimension, 2 * dimension), nn.GELU(), nn.Linear(2 * dimension, dimension))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, k, d = x.shape
        query, key, value = self.attend(self.first(x)).view(b, k, 3, _HEADS, d // _HEADS).permute(2, 0, 3, 1, 4)
        seen = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.drop(self.mix(seen.transpose(1, 2).reshape(b, k, d)))
        return x + self.drop(self.feed(self.second(x)))
