"""Training of the deep part from the click stream: every click with what its user had clicked before it.

A step takes the newest clicks, and beside each some remembered ones (:attr:`~SequenceLearning.replay`): a click that is
seen once teaches little. Only items that have been clicked compete, or new ones would be pushed away (design §7). Of
few all compete; of many a draw, half by their clicks and half evenly, each logit corrected by −log of its expected
number (Bengio, Senécal 2003), so that the draw changes nothing but the noise. What the deep part is worth
stands in ``ops/bench/QUALITY.md``, under the gate.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.items import ItemStore
from models.neighbours import WINDOW
from models.sequence import SequenceConfig, SequenceNet, inputs_of

_ALL: Final = 2_000  # clicked items of which all compete
_FEW: Final = 64  # clicks before the first step
_DISTINCT_EVERY: Final = 64  # steps between two lists of what has been clicked
_CENTRED: Final = 32  # vectors of whom a mean is more than noise
_SAMPLED: Final = 1 << 14  # vectors that make it, at most


@dataclass(frozen=True, kw_only=True)
class SequenceLearning:
    """How the net is trained."""

    batch: int = 128
    """Newest clicks of a step, at most."""
    replay: int = 2
    """Clicks of the memory beside each of them."""
    memory: int = 60_000
    """Clicks that are remembered (84 bytes each)."""
    rate: float = 1e-3
    """AdamW's learning rate."""
    negatives: int = 512
    """Items that compete with the clicked one, where not all do."""


class SequenceLearner:
    """Trains a net; knows its items by row, and keeps nothing of a user but the items before a click.

    Parameters
    ----------
    items
        The catalogue with its vectors.

    Attributes
    ----------
    clicks : int
        Clicks trained on, those of earlier lives among them.
    added, taken : int
        Clicks remembered in this life, and those of them that no step needs to take any more.
    missed : int
        Clicks that newer ones pushed out of the memory before a step took them.
    steps, refused : int
        Steps of this life, and those whose loss was not finite: they move nothing.
    loss : float
        Of the last step, nats; NaN before the first.
    """

    def __init__(
        self,
        items: ItemStore,
        config: SequenceConfig = SequenceConfig(),
        learning: SequenceLearning = SequenceLearning(),
        *,
        seed: int = 7,
    ) -> None:
        self.items = items
        self.config = config
        self.learning = learning
        self.clicks = 0
        self._seed = seed
        self._draw = np.random.default_rng(seed)
        self._histories: NDArray[np.int32] = np.full((learning.memory, WINDOW), -1, np.int32)
        self._targets: NDArray[np.int32] = np.full(learning.memory, -1, np.int32)
        self.added = self.taken = self.missed = self.steps = self.refused = 0
        self.loss = math.nan
        self._counts: NDArray[np.int32] = np.zeros(0, np.int32)
        self._distinct: NDArray[np.int64] = np.zeros(0, np.int64)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.take_over(SequenceNet(items.dimension, config), 0)

    def take_over(self, net: SequenceNet, clicks: int) -> None:
        """Go on from a net that was trained on so many clicks.

        The optimisers' moments and the memory begin anew: they are worth a few hundred clicks, and as large as the net.
        """
        self.net, self.clicks = net.train(), clicks
        self._continued = clicks > 0
        self._centred = 0
        sparse = [net.items.weight, net.bias.weight]
        dense = [each for each in net.parameters() if all(each is not one for one in sparse)]
        self._dense = torch.optim.AdamW(dense, lr=self.learning.rate)
        self._sparse = torch.optim.SparseAdam(sparse, lr=self.learning.rate)

    def add(self, target: int, history: Sequence[int]) -> None:
        """Remember a click.

        Parameters
        ----------
        target
            Row of the clicked item.
        history
            The user's clicks before it, newest first; those beyond :data:`~models.neighbours.WINDOW` are ignored.
        """
        if target == self.items.nowhere:
            return
        if len(self._counts) < len(self.items):
            self._counts = np.concatenate(
                [self._counts, np.zeros(max(1024, len(self.items), len(self._counts)), np.int32)]
            )
        at = self.added % len(self._targets)
        if self._targets[at] >= 0:
            self._counts[self._targets[at]] -= 1
        self._counts[target] += 1
        self._targets[at] = target
        size = min(WINDOW, len(history))
        self._histories[at, :size], self._histories[at, size:] = history[:size], -1
        self.added += 1
        missed = max(0, self.waiting - len(self._targets))
        self.taken += missed
        self.missed += missed

    @property
    def waiting(self) -> int:
        """Clicks that no step has taken yet."""
        return self.added - self.taken

    def step(self) -> bool:
        """One step on the newest clicks; False where there is nothing to learn from."""
        learning = self.learning
        size = min(self.waiting, learning.batch)
        if not size or self.added < _FEW:
            return False
        kept = len(self._targets)
        known = min(self.added, kept)
        # the oldest that wait go first; what is in the memory already stands beside them
        fresh = np.arange(self.taken, self.taken + size)
        again = self._draw.integers(self.added - known, self.added, learning.replay * size)
        self.taken += size
        at = np.concatenate([fresh, again]) % kept
        self._train(self._histories[at].astype(np.int64), self._targets[at].astype(np.int64))
        self.clicks += size
        self.steps += 1
        return True

    def _train(self, histories: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        net = self.net
        self._centre()
        if self.steps % _DISTINCT_EVERY == 0:
            self._distinct = np.flatnonzero(self._met())
        every = len(self._distinct) <= _ALL
        drawn = np.union1d(self._distinct, targets) if every else self._drawn()
        # every item of the step once: its x is worked out and its gradient summed up once
        rows, where = np.unique(np.concatenate([np.maximum(histories, 0).ravel(), targets, drawn]), return_inverse=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed + self.steps)  # dropout
            x, bias = net.embed(*inputs_of(self.items, rows, net))
            bias = bias[:, 0]
            places = torch.from_numpy(where)
            b = len(targets)
            past, wanted, rivals = places[: b * WINDOW].view(b, WINDOW), places[b * WINDOW :][:b], places[-len(drawn) :]
            states = net(x[past], torch.from_numpy(histories >= 0))
        logits = states @ x[rivals].T + bias[rivals]
        if every:
            own = torch.from_numpy(np.searchsorted(drawn, targets))
            loss = torch.nn.functional.cross_entropy(logits, own)
        else:
            clicked = self._counts[drawn] / max(1, int(self._counts[self._distinct].sum()))
            expected = len(drawn) * (0.5 * clicked + 0.5 / len(self._distinct))
            logits = logits - torch.from_numpy(np.log(expected).astype(np.float32))
            logits = logits.masked_fill(rivals == wanted[:, None], -1e9)
            own = (states * x[wanted]).sum(1) + bias[wanted]
            loss = torch.nn.functional.cross_entropy(
                torch.cat([own[:, None], logits], dim=1), torch.zeros(b, dtype=torch.long)
            )
        self.loss = float(loss.detach())
        if not math.isfinite(self.loss):  # one such step, and the net would say nothing any more
            self.refused += 1
            return
        self._dense.zero_grad()
        self._sparse.zero_grad()
        loss.backward()
        self._dense.step()
        self._sparse.step()

    def _met(self) -> NDArray[np.bool_]:
        """Which items have been clicked, by row."""
        met: NDArray[np.bool_] = self._counts > 0
        if self._continued and self.added < len(self._targets):
            # the memory does not know of clicks before the restart, but the net does: who competed has a bias
            n = min(len(met), len(self.items))
            slots = (self.items.hashes[:n] % np.uint64(self.config.slots)).astype(np.int64)
            met[:n] |= self.net.bias.weight.detach().numpy()[slots, 0] != 0
        return met

    def _drawn(self) -> NDArray[np.int64]:
        """Items that compete, with repeats: half of them by their clicks, half evenly."""
        half = self.learning.negatives // 2
        known = min(self.added, len(self._targets))
        by_clicks = self._targets[self._draw.integers(0, known, half)].astype(np.int64)
        return np.concatenate([by_clicks, self._draw.choice(self._distinct, half)])

    def _centre(self) -> None:
        """Follow the catalogue: when it is first known, and each time that twice as much of it is."""
        encoded = np.flatnonzero(self.items.encoded[: len(self.items)])
        if len(encoded) < max(_CENTRED, 2 * self._centred):
            return
        self._centred = len(encoded)
        some = encoded[:: -(-len(encoded) // _SAMPLED)]
        self.net.centre(torch.from_numpy(self.items.vectors[some]), keep=self.clicks > 0)

    def snapshot(self) -> SequenceNet:
        """The net as it is now, a copy."""
        net: SequenceNet = copy.deepcopy(self.net).eval()
        return net
