"""Local outlier factors of the patches at each position of the grid.

Breunig et al., "LOF: Identifying Density-Based Local Outliers", SIGMOD 2000.
"""

import torch
from torch import Tensor

BLOCK_NUMBERS = 2**22
"""Distances that are computed at once: 16 MiB."""
SMALLEST = 1e-3
"""Smallest mean distance to the neighbours, relative to the spread of all points: copies would be infinitely dense."""


def local_outlier_factors(points: Tensor, inside: Tensor, neighbours: int) -> Tensor:
    """The mean density around a point's neighbours divided by that around the point itself, for each position.

    About 1 for a point among similar ones, more for one that lies apart.

    Args:
        points: (N, P, D), of N images at P positions, which are not compared with each other.
        inside: (N, P) bool; the others are nobody's neighbours.
        neighbours: Number of nearest ones that are compared; all, at a position with fewer others inside.

    Returns:
        (N, P); 1 for points that are not inside and for points without neighbours.
    """
    weight = inside[:, :, None].to(points)
    mean = (points * weight).sum(0) / weight.sum(0).clamp_min(1)
    centred = (points - mean) * weight  # small numbers, so that distances by products are accurate
    spread = (centred.square().sum() / inside.sum().clamp_min(1)).sqrt()
    floor = (SMALLEST * spread).clamp_min(torch.finfo(points.dtype).eps)
    count = min(neighbours, len(points) - 1)
    if count == 0:
        return torch.ones_like(centred[:, :, 0])
    at_once = max(1, BLOCK_NUMBERS // len(points) ** 2)
    parts = (part.transpose(0, 1).split(at_once) for part in (centred, inside))
    return torch.cat([_factors(near, there, count, floor) for near, there in zip(*parts, strict=True)]).T


def _factors(points: Tensor, inside: Tensor, count: int, floor: Tensor) -> Tensor:
    """Factors (P, N) of points (P, N, D), each with up to `count` neighbours of the N - 1 others."""
    distances = torch.cdist(points, points, compute_mode="use_mm_for_euclid_dist")
    own = torch.eye(points.shape[1], dtype=torch.bool, device=points.device)
    near, index = distances.masked_fill(~inside[:, None] | own, torch.inf).topk(count, largest=False)
    counts = near.isfinite()
    number = counts.sum(2).clamp_min(1)
    farthest = near.masked_fill(~counts, 0).amax(2)  # distance to the last neighbour
    reach = torch.maximum(near, _of_neighbours(farthest, index)).masked_fill(~counts, 0)
    density = 1 / (reach.sum(2) / number).clamp_min(floor)
    around = (_of_neighbours(density, index) * counts).sum(2) / number
    return torch.where(inside & counts.any(2), around / density, torch.ones_like(density))


def _of_neighbours(values: Tensor, index: Tensor) -> Tensor:
    """Values (P, N) of the neighbours with index (P, N, k): (P, N, k)."""
    return values.gather(1, index.flatten(1)).reshape(index.shape)
