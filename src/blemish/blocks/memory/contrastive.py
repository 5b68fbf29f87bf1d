"""Pairwise and contextual similarity of patches, and the relaxed contrastive loss.

Formulas: Hyun et al., "ReConPatch: Contrastive Patch Representation Learning for Industrial Anomaly Detection",
WACV 2024; the loss with relative distances is from Kim et al., "Embedding Transfer with Label Relaxation for
Improved Metric Learning", CVPR 2021.
"""

import torch
from torch import Tensor


def squared_distances(points: Tensor) -> Tensor:
    """Squared distance of each of the points (N, D) to each other, (N, N); exactly 0 on the diagonal."""
    points = points - points.mean(0)  # less cancellation in the product below
    norms = points.square().sum(1)
    squared = (norms[:, None] + norms - 2 * points @ points.T).clamp_min(0)
    return squared * (1 - torch.eye(len(points), dtype=points.dtype, device=points.device))


def pairwise_similarity(squared: Tensor, bandwidth: float | Tensor) -> Tensor:
    """exp(−d² / bandwidth) of squared distances (N, N): 1 for equal points."""
    return torch.exp(-squared / bandwidth)


def contextual_similarity(squared: Tensor, neighbours: int) -> Tensor:
    """Share of common neighbours, in [0, 1], of points with the squared distances (N, N); symmetric.

    w_ij = |N_k(i) ∩ N_k(j)| / k where j is in N_k(i), else 0. Each row is then averaged over the point's
    reciprocal neighbours among the nearest ⌊k/2⌋, and the result with its transpose. A point is its own nearest
    neighbour and counts among the k.

    Args:
        squared: (N, N).
        neighbours: k; at most N are taken.
    """
    near = nearest(squared, neighbours)
    common = (near[near][..., None] == near[:, None, None]).sum((2, 3))  # (N, k)
    shared = torch.zeros_like(squared).scatter_(1, near, common.to(squared.dtype) / near.shape[1])
    half = near[:, : max(neighbours // 2, 1)]
    oneself = torch.arange(len(squared), device=squared.device)[:, None, None]
    reciprocal = (half[half] == oneself).any(2).to(squared.dtype)  # (N, k/2)
    expanded = (shared[half] * reciprocal[..., None]).sum(1) / reciprocal.sum(1, keepdim=True)
    return (expanded + expanded.T) / 2


def nearest(squared: Tensor, count: int) -> Tensor:
    """Indices of the `count` (at most N) points nearest to each, sorted by distance, itself first: (N, k)."""
    ranked = squared.clone().fill_diagonal_(-1)
    return ranked.topk(min(count, len(ranked)), largest=False).indices


def relaxed_contrastive_loss(points: Tensor, similarity: Tensor, margin: float) -> Tensor:
    """Mean over all pairs of ω·δ² + (1 − ω)·max(0, margin − δ)².

    δ_ij is the distance of points i and j relative to the mean distance of point i to all N points, itself
    included. The gradient includes that mean, so the loss cannot be lowered by scaling all points down. The
    paper sums over j; the mean makes the loss independent of the number of points.

    Args:
        points: (N, D).
        similarity: ω, (N, N) in [0, 1]; no gradient reaches it.
        margin: Relative distance beyond which dissimilar pairs no longer repel each other.
    """
    squared = squared_distances(points)
    apart = squared > 0
    distances = torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)  # no infinite slope at 0
    tiny = torch.finfo(points.dtype).tiny
    relative = distances / distances.mean(1, keepdim=True).clamp_min(tiny)
    similarity = similarity.detach()
    attraction = similarity * relative.square()
    repulsion = (1 - similarity) * (margin - relative).clamp_min(0).square()
    return (attraction + repulsion).mean()
