"""Exact greedy k-centre: the paper's coreset, and the reference for `blemish.blocks.net`."""

import math

import torch
from torch import Tensor

from blemish.types import Progress, no_progress

PROJECTED = 128
START_POINTS = 10
FARTHEST = 4096
"""Patches looked at for the next choices, before all are."""
ROWS_AT_ONCE = 1024


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
    global ones. Cost: count · N · 128 multiplications, as matrix products; memory: N · 130 numbers.

    The patches are not gone through once for each choice. A choice brings patches nearer, never farther: as long
    as one of the `FARTHEST` farthest is still farther than all others were, the farthest of all is among them.

    Args:
        patches: (N, D).
        count: How many to choose, at most N.

    Returns:
        (count,) int64, in the order of choosing.
    """
    points = project(patches, PROJECTED)
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
