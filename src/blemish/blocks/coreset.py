"""Exact greedy k-centre: the paper's coreset, and the reference for `blemish.blocks.net`."""

import math

import torch
from torch import Tensor

from blemish.types import Progress, no_progress

PROJECTED = 128
START_POINTS = 10


class GreedyCoreset:
    """Exact greedy k-centre with the hooks of `StreamingCoreset`; keeps all patches until the end."""

    def __init__(
        self, *, ratio: float = 1.0, size: int | None = None, progress: Progress = no_progress
    ) -> None:
        self.ratio = ratio
        self.size = size
        self.progress = progress
        self.waiting: list[tuple[Tensor, Tensor]] = []

    def add(self, patches: Tensor, origins: Tensor) -> None:
        """Take in patches (N, D) and where each is from (N, ·)."""
        self.waiting.append((patches, origins))

    def finish(self) -> tuple[Tensor, Tensor]:
        """The chosen patches (M, D) and where each is from."""
        patches, origins = (torch.cat(parts) for parts in zip(*self.waiting, strict=True))
        count = min(len(patches), self.size or max(1, round(self.ratio * len(patches))))
        chosen = greedy_coreset(patches, count, self.progress)
        return patches[chosen], origins[chosen]


def greedy_coreset(patches: Tensor, count: int, progress: Progress = no_progress) -> Tensor:
    """Indices of `count` patches by exact greedy k-centre: each next one is the farthest from those chosen.

    Distances are taken after a random projection to 128 dimensions (Johnson-Lindenstrauss), as PatchCore does;
    the first patch is the one with the largest mean distance to ten random ones. The random numbers are torch's
    global ones. Cost: count · N · 128 multiplications; memory: N · 130 numbers.

    Args:
        patches: (N, D).
        count: How many to choose, at most N.

    Returns:
        (count,) int64, in the order of choosing.
    """
    points = project(patches, PROJECTED)
    norms = points.square().sum(1)
    start = torch.randint(len(points), (START_POINTS,)).to(points.device)
    first = _squared_distances(points, norms, start).sqrt().mean(1).argmax()
    chosen = torch.empty(count, dtype=torch.int64, device=points.device)
    nearest = torch.full_like(norms, torch.inf)
    latest = first
    for i in range(count):
        chosen[i] = latest
        distance = torch.addmv(norms, points, points[latest], alpha=-2).add_(norms[latest])
        torch.minimum(nearest, distance, out=nearest)
        nearest[latest] = -torch.inf  # rounding must not let a patch be chosen twice
        latest = nearest.argmax()
        if i % 100 == 0 or i == count - 1:
            progress("choosing the coreset", i + 1, count)
    return chosen


def project(patches: Tensor, dimensions: int) -> Tensor:
    """Seeded random projection that keeps distances on average; patches that are no wider stay as they are."""
    width = patches.shape[1]
    if width <= dimensions:
        return patches
    matrix = torch.randn(width, dimensions) / math.sqrt(dimensions)
    return patches @ matrix.to(patches)


def _squared_distances(points: Tensor, norms: Tensor, indices: Tensor) -> Tensor:
    """(N, len(indices))."""
    products = points @ points[indices].T
    return (norms[:, None] + norms[indices] - 2 * products).clamp_min(0)
