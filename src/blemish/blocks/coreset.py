"""Greedy k-centre: the paper's coreset, exact, and the choice of the farthest that `blemish.blocks.net` makes too."""

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

    Args:
        patches: (N, D).
        count: How many to choose, at most N.

    Returns:
        (count,) int64, in the order of choosing.
    """
    points = project(patches, PROJECTED)
    norms = points.square().sum(1)
    start = torch.randint(len(points), (START_POINTS,)).to(points.device)
    first = _squared_distances(points, norms, start).sqrt().mean(1).argmax()[None]
    nearest = _squared_distances(points, norms, first)[:, 0]
    nearest[first] = -torch.inf
    others, _ = farthest_first(points, nearest, count - 1, progress=progress)
    return torch.cat([first, others])


def farthest_first(
    points: Tensor,
    nearest: Tensor,
    count: int,
    *,
    beyond: float = -math.inf,
    progress: Progress = no_progress,
) -> tuple[Tensor, Tensor]:
    """Chooses the point farthest from all chosen before it, again and again.

    The points are not gone through once for each choice. A choice brings points nearer, never farther: as long as
    one of the `FARTHEST` farthest is still farther than all others were, the farthest of all is among them.

    Args:
        points: (N, D).
        nearest: Squared distance of each to what was chosen before (N,); infinite if there is nothing, −infinite if
            it must not be chosen. Changed in place.
        count: How many to choose at most.
        beyond: Squared distance that a point must be farther than to be chosen.

    Returns:
        Indices in the order of choosing (M,), M ≤ count, and the squared distance at which each was chosen (M,).
    """
    norms = points.square().sum(1)
    chosen, gaps, done = [points.new_empty(0, dtype=torch.int64)], [points.new_empty(0)], 0
    while done < count:
        latest, theirs = _next_farthest(points, norms, nearest, count - done, beyond)
        if not len(latest):
            break
        chosen.append(latest)
        gaps.append(theirs)
        done += len(latest)
        progress("choosing the coreset", done, count)
        for part, own, so_far in zip(*(t.split(ROWS_AT_ONCE) for t in (points, norms, nearest)), strict=True):
            distances = torch.addmm(norms[latest], part, points[latest].T, alpha=-2).amin(1) + own
            torch.minimum(so_far, distances, out=so_far)
        nearest[latest] = -torch.inf  # rounding must not let a point be chosen twice
    return torch.cat(chosen), torch.cat(gaps)


def _next_farthest(
    points: Tensor, norms: Tensor, nearest: Tensor, most: int, beyond: float
) -> tuple[Tensor, Tensor]:
    """The next choices and their gaps: as many as the farthest points suffice for, at least one if there is one."""
    farthest = nearest.topk(min(FARTHEST, len(nearest))).indices.sort().values
    others = float(nearest[farthest].min()) if len(farthest) < len(nearest) else -math.inf
    points, norms, nearest = points[farthest], norms[farthest], nearest[farthest]
    chosen: list[int] = []
    gaps: list[float] = []
    while len(chosen) < most:
        latest = int(nearest.argmax())
        gap = float(nearest[latest])
        if gap <= (max(others, beyond) if chosen else beyond):
            break
        chosen.append(latest)
        gaps.append(gap)
        distances = torch.addmv(norms, points, points[latest], alpha=-2).add_(norms[latest])
        torch.minimum(nearest, distances, out=nearest)
        nearest[latest] = -torch.inf
    return farthest[chosen], norms.new_tensor(gaps)


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
