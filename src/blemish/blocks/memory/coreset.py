"""Exact greedy k-centre: the paper's coreset, and the reference for `blemish.blocks.memory.streaming_coreset`."""

import math
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.types import Progress, no_progress

PROJECTED = 128
START_POINTS = 10
FARTHEST = 4096
"""Patches looked at for the next choices, before all are."""
ROWS_AT_ONCE = 1024


class Store(Protocol):
    """Where rows (N, D) are put one after the other, to be read again by number."""

    def append(self, rows: NDArray[np.float32]) -> None: ...

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.float32]: ...


class GreedyCoreset:
    """Exact greedy k-centre with the hooks of `StreamingCoreset`.

    In memory stays what greedy compares, `PROJECTED` numbers of each patch; the patches themselves wait in a store.

    Args:
        expected: About how many patches will come.
        store: Empty; where the patches wait.
        ratio: Budget as a share of the patches that came.
        size: Budget in patches; takes the place of `ratio`.
    """

    def __init__(
        self,
        expected: int,
        store: Store,
        *,
        ratio: float = 1.0,
        size: int | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.expected = expected
        self.store = store
        self.ratio = ratio
        self.size = size
        self.progress = progress
        self.seen = 0
        self.points = self.origins = self.matrix = torch.empty(0)

    def add(self, patches: Tensor, origins: Tensor) -> None:
        """Take in patches (N, D) and where each is from (N, ·)."""
        if not self.seen:
            self.matrix = projection(patches.shape[1]).to(patches)
            self.points = patches.new_empty(self.expected, self.matrix.shape[1])
            self.origins = origins.new_empty(self.expected, origins.shape[1])
        end = self.seen + len(patches)
        if end > len(self.points):  # more than expected
            self.points, self.origins = (
                torch.cat([kept, kept.new_empty(end, kept.shape[1])]) for kept in (self.points, self.origins)
            )
        self.points[self.seen : end] = patches @ self.matrix
        self.origins[self.seen : end] = origins
        self.store.append(patches.cpu().numpy())
        self.seen = end

    def finish(self) -> tuple[Tensor, Tensor]:
        """The chosen patches (M, D) and where each is from."""
        points = self.points[: self.seen]
        count = min(self.seen, self.size or max(1, round(self.ratio * self.seen)))
        chosen = farthest_first(points, count, self.progress)
        patches = torch.from_numpy(self.store.read(chosen.cpu().numpy()))
        return patches.to(points), self.origins[chosen]


def greedy_coreset(patches: Tensor, count: int, progress: Progress = no_progress) -> Tensor:
    """Indices of `count` of the patches (N, D) by exact greedy k-centre.

    Distances are taken after a random projection to 128 dimensions (Johnson-Lindenstrauss), as PatchCore does.
    The random numbers are torch's global ones. Memory: N · 130 numbers.
    """
    return farthest_first(patches @ projection(patches.shape[1]).to(patches), count, progress)


def farthest_first(points: Tensor, count: int, progress: Progress = no_progress) -> Tensor:
    """Indices of points: each next one is the farthest from those chosen.

    The first is the one with the largest mean distance to ten random ones (torch's global generator). Cost:
    count · N · D multiplications, as matrix products.

    The points are not gone through once for each choice. A choice brings points nearer, never farther: as long
    as one of the `FARTHEST` farthest is still farther than all others were, the farthest of all is among them.

    Args:
        points: (N, D).
        count: How many to choose, at most N.

    Returns:
        (count,) int64, in the order of choosing.
    """
    norms = points.square().sum(1)
    start = torch.randint(len(points), (START_POINTS,)).to(points.device)
    latest = _squared_distances(points, norms, start).sqrt().mean(1).argmax()[None]
    chosen, done = [latest], 1
    nearest = torch.full_like(norms, torch.inf)  # squared distance to the nearest one chosen
    while done < count:
        for part, own, so_far in zip(*(t.split(ROWS_AT_ONCE) for t in (points, norms, nearest)), strict=True):
            distances = torch.addmm(norms[latest], part, points[latest].T, alpha=-2).amin(1) + own
            torch.minimum(so_far, distances, out=so_far)
        nearest[latest] = -torch.inf  # rounding must not let a patch be chosen twice
        latest = _next_farthest(points, norms, nearest, count - done)
        chosen.append(latest)
        done += len(latest)
        progress("choosing the coreset", done, count)
    return torch.cat(chosen)


def _next_farthest(points: Tensor, norms: Tensor, nearest: Tensor, most: int) -> Tensor:
    """Indices of the next ones that greedy chooses, at least one, as many as the farthest patches suffice for."""
    farthest = nearest.topk(min(FARTHEST, len(nearest))).indices.sort().values
    points, norms, nearest = points[farthest], norms[farthest], nearest[farthest]
    others = nearest.min() if len(farthest) == FARTHEST else nearest.new_tensor(-torch.inf)
    chosen: list[Tensor] = []
    latest = nearest.argmax()
    while len(chosen) < most and (not chosen or nearest[latest] > others):
        chosen.append(latest)
        distance = torch.addmv(norms, points, points[latest], alpha=-2).add_(norms[latest])
        torch.minimum(nearest, distance, out=nearest)
        nearest[latest] = -torch.inf
        latest = nearest.argmax()
    return farthest[torch.stack(chosen)]


def projection(width: int) -> Tensor:
    """Random (width, ≤ 128) that keeps distances on average; the identity where the width is no more than that."""
    if width <= PROJECTED:
        return torch.eye(width)
    return torch.randn(width, PROJECTED) / math.sqrt(PROJECTED)


def _squared_distances(points: Tensor, norms: Tensor, indices: Tensor) -> Tensor:
    """(N, len(indices))."""
    products = points @ points[indices].T
    return (norms[:, None] + norms[indices] - 2 * products).clamp_min(0)
