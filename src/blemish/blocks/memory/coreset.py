"""Exact greedy k-centre: the coreset of the PatchCore paper, and the reference for `streaming_coreset`."""

import math
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.types import Progress, no_progress

PROJECTED = 128
"""Dimensions after random projection."""
START_POINTS = 10
"""Random points that decide the first choice."""
FARTHEST = 4096
"""Patches among which the next ones are chosen before all distances are updated."""
ROWS_AT_ONCE = 1024


class Store(Protocol):
    """Storage for rows (N, D): appended in order, read by index."""

    def append(self, rows: NDArray[np.float32]) -> None: ...

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.float32]: ...


class GreedyCoreset:
    """Exact greedy k-centre with the hooks of `StreamingCoreset`.

    Memory holds what greedy compares, `PROJECTED` numbers of each patch; the patches themselves are in a store.

    Args:
        expected: Approximate number of patches.
        store: Empty; receives the patches.
        ratio: Budget as a share of the patches.
        size: Budget in patches; replaces `ratio`.
        keep_start: See `farthest_first`.
    """

    def __init__(
        self,
        expected: int,
        store: Store,
        *,
        ratio: float = 1.0,
        size: int | None = None,
        keep_start: bool = False,
        progress: Progress = no_progress,
    ) -> None:
        self.expected = expected
        self.store = store
        self.ratio = ratio
        self.size = size
        self.keep_start = keep_start
        self.progress = progress
        self.seen = 0
        self.points = self.origins = self.matrix = torch.empty(0)

    def add(self, patches: Tensor, origins: Tensor) -> None:
        """Add patches (N, D) and their origins (N, ·)."""
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
        """The chosen patches (M, D) and their origins (M, ·)."""
        points = self.points[: self.seen]
        count = min(self.seen, self.size or max(1, round(self.ratio * self.seen)))
        chosen = farthest_first(points, count, self.progress, keep_start=self.keep_start)
        patches = torch.from_numpy(self.store.read(chosen.cpu().numpy()))
        return patches.to(points), self.origins[chosen]


def greedy_coreset(patches: Tensor, count: int, progress: Progress = no_progress) -> Tensor:
    """Indices of `count` of the patches (N, D) by exact greedy k-centre.

    Distances are computed after a random projection to 128 dimensions (Johnson-Lindenstrauss), as PatchCore does.
    The random numbers are torch's global ones. Memory: N · 130 numbers.
    """
    return farthest_first(patches @ projection(patches.shape[1]).to(patches), count, progress)


def farthest_first(
    points: Tensor, count: int, progress: Progress = no_progress, *, keep_start: bool = False
) -> Tensor:
    """Indices of points, each the farthest from all chosen before it.

    The first is the one with the largest mean distance to ten random ones (torch's global generator). Cost:
    count · N · D multiplications, as matrix products.

    Distances are not updated for all points after each choice. A choice only lowers distances: as long as one of the
    `FARTHEST` farthest points is farther than all others were before, the farthest of all is among them.

    Args:
        points: (N, D).
        count: Number of choices, at most N.
        keep_start: Whether the mean distance to the random points, from which the first choice is made, bounds the
            distance of every point to those chosen, as in the code of PatchCore's authors. A point far from all
            chosen ones but nearer to the random ones is then chosen later.

    Returns:
        (count,) int64, in the order of choosing.
    """
    norms = points.square().sum(1)
    start = torch.randint(len(points), (START_POINTS,)).to(points.device)
    to_start = _squared_distances(points, norms, start).sqrt().mean(1)
    latest = to_start.argmax()[None]
    chosen, done = [latest], 1
    # Squared distance to the nearest one chosen.
    nearest = to_start.square() if keep_start else torch.full_like(norms, torch.inf)
    while done < count:
        for part, own, so_far in zip(*(t.split(ROWS_AT_ONCE) for t in (points, norms, nearest)), strict=True):
            distances = torch.addmm(norms[latest], part, points[latest].T, alpha=-2).amin(1) + own
            torch.minimum(so_far, distances, out=so_far)
        nearest[latest] = -torch.inf  # despite rounding, no patch is chosen twice
        latest = _next_farthest(points, norms, nearest, count - done)
        chosen.append(latest)
        done += len(latest)
        progress("choosing the coreset", done, count)
    return torch.cat(chosen)


def _next_farthest(points: Tensor, norms: Tensor, nearest: Tensor, most: int) -> Tensor:
    """Indices of the next choices of greedy: at least one, and as many as the farthest points determine."""
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
    """Random matrix (width, ≤ 128) that preserves distances on average; the identity up to a width of 128."""
    if width <= PROJECTED:
        return torch.eye(width)
    return torch.randn(width, PROJECTED) / math.sqrt(PROJECTED)


def _squared_distances(points: Tensor, norms: Tensor, indices: Tensor) -> Tensor:
    """(N, len(indices))."""
    products = points @ points[indices].T
    return (norms[:, None] + norms[indices] - 2 * products).clamp_min(0)
