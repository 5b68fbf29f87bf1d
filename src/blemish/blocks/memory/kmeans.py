"""k-means clustering."""

import torch
from torch import Tensor

ROUNDS = 5


def kmeans(points: Tensor, count: int, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from random points; empty clusters are dropped.

    The random numbers are torch's global ones.

    Args:
        points: (N, D).
        count: Number of clusters, at most N.
        rounds: Number of iterations.

    Returns:
        Centres (K, D), K ≤ count, and each point's cluster (N,) int64.
    """
    centres = points[torch.randperm(len(points))[:count].to(points.device)].clone()
    for _ in range(rounds):
        members = nearest_centre(points, centres)
        sizes = torch.bincount(members, minlength=len(centres))[:, None]
        sums = torch.zeros_like(centres).index_add_(0, members, points)
        centres = (sums / sizes.clamp_min(1))[sizes[:, 0] > 0]
    members = nearest_centre(points, centres)
    used, members = torch.unique(members, return_inverse=True)
    return centres[used], members


def nearest_centre(points: Tensor, centres: Tensor) -> Tensor:
    """Index of the centre nearest to each point: (N,) int64."""
    norms = centres.square().sum(1)
    blocks = points.split(max(1, 2**24 // len(centres)))
    return torch.cat([torch.addmm(norms, block, centres.T, alpha=-2).argmin(1) for block in blocks])
