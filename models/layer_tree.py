"""The tree of interest layers: coarse centres, each with fine ones below it, learned online by River.

Finding the nearest of 64 centres is array work and NumPy does it, for a block of vectors at once; moving a centre is
River's :meth:`river.cluster.KMeans.learn_one`, one vector after the other. While a block is learned its centres move,
so a winner found at its start can be wrong by the time its turn comes. How far each centre can have moved is bounded
beforehand; only where that bound leaves a doubt are distances taken again, and where two are equal River itself is
asked. The labels are therefore those of stock River, all of them, at a fraction of its time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.centres import batch_kmeans, distances, far_half, route
from models.routed_kmeans import TIE, RoutedKMeans


class _Look(NamedTuple):
    """What NumPy sees of a block before it is learned; columns are the coarse centres, then the fine ones."""

    to: NDArray[np.float64]
    """Distances, [n, columns]."""
    branch: NDArray[np.intp]
    leaf: NDArray[np.intp]
    """Below its branch, 0 … width_fine − 1."""
    least: NDArray[np.float64]
    """How near a centre can have come by a vector's turn, [n, columns]."""
    most: NDArray[np.float64]
    """How far the winning coarse centre can be by then, [n]."""
    most_fine: NDArray[np.float64]
    lead: NDArray[np.float64]
    """How much farther than the winner the nearest rival still is, at either level; under 0: not sure."""


class LayerTree:
    """``width`` coarse centres with ``width_fine`` fine centres each.

    A fine centre (i, j) has the *leaf* number i · width_fine + j.

    Parameters
    ----------
    dimensions
        Numbers in a z, r.
    width, width_fine
        Branches at the root and at each coarse layer.
    step, step_fine
        River's ``halflife``: the share of the way that a centre moves towards a vector.
    memory
        Half-life of sizes and inertia, vectors.
    seed
        Of the batch k-means that places centres.

    Attributes
    ----------
    coarse, fine : float64 [width, r], [width · width_fine, r]
        The centres, equal to River's after every :meth:`learn`.
    size, size_fine, inertia, inertia_fine : float64 [width], [width · width_fine]
        Decayed number of vectors of each layer and sum of their squared distances to its centre.
    """

    def __init__(
        self,
        dimensions: int,
        *,
        width: int = 8,
        width_fine: int = 8,
        step: float = 0.002,
        step_fine: float = 0.005,
        memory: float = 2_000,
        seed: int = 7,
    ) -> None:
        self.dimensions = dimensions
        self.width, self.width_fine = width, width_fine
        self.step, self.step_fine = step, step_fine
        self.memory = memory
        self.seed = seed
        self.leaves = width * width_fine
        self.coarse = np.zeros((width, dimensions))
        self.fine = np.zeros((self.leaves, dimensions))
        self.size, self.inertia = np.zeros(width), np.zeros(width)
        self.size_fine, self.inertia_fine = np.zeros(self.leaves), np.zeros(self.leaves)
        self.rivers = RoutedKMeans(width, step, seed=seed)
        self.rivers_fine = [RoutedKMeans(width_fine, step_fine, seed=seed) for _ in range(width)]

    def seed_from(self, z: NDArray[np.float32], *, keep: bool = False) -> None:
        """Place all centres by batch k-means; with ``keep`` from where they are, so that layers stay who they are."""
        coarse, labels = batch_kmeans(z, self.width, self.seed, self.coarse if keep else None)
        if not keep:  # layer 0 is the largest
            order = np.argsort(-np.bincount(labels, minlength=self.width), kind="stable")
            coarse, labels = coarse[order], np.argsort(order)[labels]
        fine = self.fine.reshape(self.width, self.width_fine, -1)
        for i in range(self.width):
            inside = z[labels == i]
            if len(inside) or not keep:
                inside = inside if len(inside) else coarse[i : i + 1]
                fine[i] = batch_kmeans(inside, self.width_fine, self.seed, fine[i] if keep else None)[0]
        self.coarse[:] = coarse
        self.place_rivers()

    def boost(self, factor: float) -> None:
        """Multiply both steps by this (1 = back to normal)."""
        self.rivers.halflife = self.step * factor
        for river in self.rivers_fine:
            river.halflife = self.step_fine * factor

    def learn(self, z: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Learn a block of vectors in order.

        Returns
        -------
        leaves : intp [n]
            The leaf of each at its turn.
        squared : float64 [n, leaves]
            Squared distances to all fine centres, as they stood when the block began.
        """
        look = self._look(z.astype(np.float64))
        coarse, fines, width = self.rivers, self.rivers_fine, self.width_fine
        keys, slack = range(z.shape[1]), TIE
        for t, (row, i, j, lead) in enumerate(
            zip(z.tolist(), look.branch.tolist(), look.leaf.tolist(), look.lead.tolist(), strict=True)
        ):
            x = dict(zip(keys, row, strict=True))
            if lead <= slack:
                true_i, true_j = self._look_again(x, row, look, t, slack)
                if (i, j) != (true_i, true_j):
                    i, j = look.branch[t], look.leaf[t] = true_i, true_j
                    # two centres are about to move that the bounds did not expect to
                    apart = coarse.distance(row, i) * coarse.halflife + fines[i].distance(row, j) * fines[i].halflife
                    slack += 2 * apart * (1 + fines[i].halflife) ** len(z)
            coarse.learn_routed(x, i)
            fines[i].learn_routed(x, j)
        n = np.arange(len(z))
        leaves = look.branch * width + look.leaf
        squared = look.to**2
        self._read_rivers(list(set(look.branch.tolist())), list(set(leaves.tolist())))
        aged = 0.5 ** (len(z) / self.memory)
        for held, index, amounts in (
            (self.size, look.branch, None),
            (self.inertia, look.branch, squared[n, look.branch]),
            (self.size_fine, leaves, None),
            (self.inertia_fine, leaves, squared[n, self.width + leaves]),
        ):
            held *= aged
            held += np.bincount(index, amounts, len(held))
        return leaves, squared[:, self.width :]

    def _look(self, wide: NDArray[np.float64]) -> _Look:
        """Find the winners of a block as the centres stand, and how sure each is when its turn comes.

        A centre that wins a vector at distance D moves by step · D, and D is at most the distance d at the start plus
        what the centre moved before: after wins at d₁ … d_w it has moved by at most (1 + step)^w · step · Σ d.
        """
        k, n = self.width, np.arange(len(wide))
        to = distances(wide, np.concatenate([self.coarse, self.fine]))
        branch = to[:, :k].argmin(axis=1)
        below = (k + branch * self.width_fine)[:, None] + np.arange(self.width_fine)
        leaf = to[n[:, None], below].argmin(axis=1)
        column = below[n, leaf]
        moved = np.zeros_like(to)
        moved[n, branch] = self.rivers.halflife * to[n, branch]
        moved[n, column] = self.rivers_fine[0].halflife * to[n, column]
        moved = np.cumsum(moved, axis=0) - moved
        moved[:, :k] *= (1 + self.rivers.halflife) ** np.bincount(branch).max()
        moved[:, k:] *= (1 + self.rivers_fine[0].halflife) ** np.bincount(column).max()
        least = to - moved
        most, most_fine = to[n, branch] + moved[n, branch], to[n, column] + moved[n, column]
        rivals, rivals_fine = least[:, :k].copy(), least[n[:, None], below]
        rivals[n, branch] = rivals_fine[n, leaf] = np.inf
        lead = np.minimum(rivals.min(axis=1) - most, rivals_fine.min(axis=1) - most_fine)
        return _Look(to, branch, leaf, least, most, most_fine, lead)

    def _look_again(self, x: dict[int, float], row: list[float], look: _Look, t: int, slack: float) -> tuple[int, int]:
        """The winners of a vector as the centres stand now, among those that can have won."""
        k, m = self.width, self.width_fine
        least = look.least[t].tolist()
        most = look.most[t] + slack
        branch = self.rivers.nearest(x, row, [i for i in range(k) if least[i] <= most])
        start, most = k + branch * m, look.most_fine[t] + slack if branch == look.branch[t] else math.inf
        return branch, self.rivers_fine[branch].nearest(x, row, [j for j in range(m) if least[start + j] <= most])

    def revive(self, recent: NDArray[np.float32], dead_share: float) -> tuple[list[int], list[int]]:
        """Move dead centres to where there is most to tell apart; the coarse layers and the leaves that began anew.

        A centre is dead when its share of the recent vectors is under ``dead_share`` / number of its siblings, itself
        included. It takes half of the sibling with the largest inertia (:func:`~models.centres.far_half`); at most
        one a family at a time, so that the next look sees what came of it. With a coarse centre go all its leaves.
        """
        began: list[int] = []
        began_fine: list[int] = []
        families = self.size_fine.reshape(self.width, self.width_fine)
        # with too few vectors no leaf of a family can be called dead
        full = families.sum(axis=1) >= 2 * self.width_fine / dead_share
        if not (_dead(self.size, dead_share) or (full & (_dead(families.T, dead_share))).any()):
            return began, began_fine
        branch, leaf = self.route(recent)
        moved = self._revive_one(self.size, self.inertia, self.coarse, branch, recent, dead_share)
        if moved is not None:
            below = slice(moved * self.width_fine, (moved + 1) * self.width_fine)
            branch, _ = self.route(recent)
            inside = recent[branch == moved]
            at = inside if len(inside) else self.coarse[moved : moved + 1]
            self.fine[below] = batch_kmeans(at, self.width_fine, self.seed)[0]
            self.size_fine[below] = self.size[moved] / self.width_fine
            self.inertia_fine[below] = 0
            began, began_fine = [moved], list(range(self.leaves)[below])
            branch, leaf = self.route(recent)
        for i in range(self.width):
            family = slice(i * self.width_fine, (i + 1) * self.width_fine)
            if i in began or not full[i]:
                continue
            moved = self._revive_one(
                self.size_fine[family],
                self.inertia_fine[family],
                self.fine[family],
                leaf - family.start,
                recent,
                dead_share,
            )
            if moved is not None:
                began_fine.append(family.start + moved)
        if began_fine:
            self.place_rivers()
        return began, began_fine

    def _revive_one(
        self,
        size: NDArray[np.float64],
        inertia: NDArray[np.float64],
        centres: NDArray[np.float64],
        labels: NDArray[np.intp],
        recent: NDArray[np.float32],
        dead_share: float,
    ) -> int | None:
        dead, full = int(size.argmin()), int(inertia.argmax())
        if dead == full or not _dead(size, dead_share):
            return None
        inside = recent[labels == full]
        if len(inside) < 4:
            return None
        centres[dead] = far_half(inside.astype(np.float64), centres[full])
        size[dead] = size[full] = (size[dead] + size[full]) / 2
        inertia[dead] = inertia[full] = inertia[full] / 2
        return dead

    def route(self, z: NDArray[np.floating]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Coarse layer and leaf of each vector."""
        return route(z, self.coarse, self.fine)

    def carry(self, transform: NDArray[np.float64]) -> None:
        """Follow a change of basis (:func:`~models.space.carry`)."""
        self.coarse = self.coarse @ transform
        self.fine = self.fine @ transform
        self.dimensions = transform.shape[1]
        self.place_rivers()

    def place_rivers(self) -> None:
        """Give River the centres that stand in the arrays."""
        for i in range(self.width):
            self.rivers.place(i, self.coarse[i])
            for j in range(self.width_fine):
                self.rivers_fine[i].place(j, self.fine[i * self.width_fine + j])

    def _read_rivers(self, branches: list[int], leaves: list[int]) -> None:
        coarse, fines, width = self.rivers.centers, self.rivers_fine, self.width_fine
        self.coarse[branches] = [list(coarse[i].values()) for i in branches]
        self.fine[leaves] = [list(fines[j // width].centers[j % width].values()) for j in leaves]


def _dead(sizes: NDArray[np.float64], dead_share: float) -> NDArray[np.bool_]:
    """Whether a family, along the first axis, has a dead centre."""
    dead: NDArray[np.bool_] = sizes.min(axis=0) < dead_share / len(sizes) * sizes.sum(axis=0)
    return dead
