"""A Gaussian for each position of a feature grid, estimated batch by batch."""

import torch
from torch import Tensor, nn

from blemish.errors import MethodError

POSITIONS_AT_ONCE = 64
"""Covariances factorised together; bounds the extra memory of `finish`."""


class PositionGaussian(nn.Module):
    """Mean and packed triangular factor of the covariance at each position, for Mahalanobis distances.

    A symmetric or triangular d × d matrix is stored as the rows of its lower triangle, d(d+1)/2 numbers, one column
    per position. Memory: P·d(d+1)/2 numbers while learning and after it, P = h·w positions.
    With Σ = L·Lᵀ, the distance is ‖L⁻¹(x − μ)‖; L⁻¹, which is lower triangular too, is stored.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor  # (d, h, w)
        self.whitening: Tensor  # (d(d+1)/2, h·w): the rows of L⁻¹
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("whitening", torch.empty(0))

    @staticmethod
    def numbers(dimensions: int) -> int:
        """How many numbers each position takes."""
        return dimensions + dimensions * (dimensions + 1) // 2

    def update(self, features: Tensor, inside: Tensor) -> None:
        """Add features (N, d, h, w); positions where inside (N, h, w) is false do not count."""
        if not hasattr(self, "_statistics"):
            self._statistics = _Statistics(features, inside)
        self._statistics.update(features, inside)

    def finish(self, ridge: float, *, absolute: bool = False) -> None:
        """Compute the factors of covariance + ridge · I from the statistics.

        Args:
            ridge: Relative to the mean variance of the features, or in their unit squared.
            absolute: Which of the two.

        Raises:
            MethodError: If fewer than two images were seen, all are equal, features are not finite, or the ridge is too
                small.
        """
        statistics = self._statistics
        del self._statistics
        if statistics.images < 2:
            raise MethodError(
                "A Gaussian per position needs at least 2 training images, got 1. Add normal images."
            )
        self.mean = statistics.mean()
        covariance = statistics.covariance()  # overwritten by the factors below, to save memory
        d = len(self.mean)
        diagonal = torch.tensor([_row(i).stop - 1 for i in range(d)], device=covariance.device)
        variance = covariance[diagonal].mean()
        if not variance.isfinite():
            raise MethodError(
                "Features of the training images are NaN or too large to estimate their variance. Use arguments nearer "
                "to the defaults."
            )
        if variance <= torch.finfo(torch.float32).tiny:
            raise MethodError(
                "All training images give the same values at every position, so nothing is known about what is usual. "
                "Give images of different parts."
            )
        covariance[diagonal] += ridge if absolute else ridge * variance
        for start in range(0, covariance.shape[1], POSITIONS_AT_ONCE):
            block = covariance[:, start : start + POSITIONS_AT_ONCE]
            block.copy_(_pack(_inverse_factor(_unpack(block, d), ridge)))
        self.whitening = covariance

    def distance(self, features: Tensor) -> Tensor:
        """Mahalanobis distance of features (N, d, h, w): (N, h, w)."""
        centred = (features - self.mean).flatten(2)  # (N, d, P)
        squared = torch.zeros_like(centred[:, 0])
        for i in range(centred.shape[1]):
            squared = squared + (self.whitening[_row(i)] * centred[:, : i + 1]).sum(1).square()
        return squared.sqrt().reshape(features.shape[0], *features.shape[2:])


class _Statistics:
    """Running sums of x and x·xᵀ per position, relative to the first batch's mean to avoid cancellation."""

    def __init__(self, features: Tensor, inside: Tensor) -> None:
        _, d, height, width = features.shape
        self.grid = (height, width)
        weight = inside.flatten(1)[:, None]
        self.shift = (features.flatten(2) * weight).sum(0) / weight.sum(0).clamp_min(1)  # (d, P)
        self.images = 0
        self.count = torch.zeros_like(self.shift[0])
        self.total = torch.zeros_like(self.shift)
        self.products = self.shift.new_zeros(d * (d + 1) // 2, height * width)

    def update(self, features: Tensor, inside: Tensor) -> None:
        self.images += len(features)
        weight = inside.flatten(1)[:, None]  # (N, 1, P)
        centred = (features.flatten(2) - self.shift) * weight
        self.count += weight.sum((0, 1))
        self.total += centred.sum(0)
        for i in range(centred.shape[1]):
            self.products[_row(i)] += (centred[:, i : i + 1] * centred[:, : i + 1]).sum(0)

    def mean(self) -> Tensor:
        offset = self.total / self.count.clamp_min(1)
        return (self.shift + offset).reshape(-1, *self.grid)

    def covariance(self) -> Tensor:
        """Unbiased, packed (d(d+1)/2, P), computed in place; zero where fewer than two images count."""
        mean = self.total / self.count.clamp_min(1)
        for i in range(len(mean)):
            self.products[_row(i)] -= self.total[i] * mean[: i + 1]
        return self.products.div_((self.count - 1).clamp_min(1))


def _row(i: int) -> slice:
    """Slice of row i in a packed lower triangle; its last element is on the diagonal."""
    start = i * (i + 1) // 2
    return slice(start, start + i + 1)


def _unpack(packed: Tensor, d: int) -> Tensor:
    """(d(d+1)/2, B) → lower triangles (B, d, d), float64."""
    full = packed.new_zeros(packed.shape[1], d, d, dtype=torch.float64)
    for i in range(d):
        full[:, i, : i + 1] = packed[_row(i)].T
    return full


def _pack(lower: Tensor) -> Tensor:
    """The inverse of `_unpack`."""
    return torch.cat([lower[:, i, : i + 1].T for i in range(lower.shape[1])])


def _inverse_factor(lower: Tensor, ridge: float) -> Tensor:
    """L⁻¹ of the symmetric matrices whose lower triangles are given.

    By Cholesky and a triangular solve: cheaper than an inverse, and torch's batched inverse fails on some CPUs for
    matrices larger than about 250 × 250.
    """
    factor, failed = torch.linalg.cholesky_ex(lower)  # reads the lower triangle only
    if failed.any():
        raise MethodError(
            "A covariance of the training images cannot be inverted with a ridge of {ridge:g}. Raise the ridge, or "
            "give more images.",
            ridge=ridge,
        )
    identity = torch.eye(lower.shape[1], dtype=lower.dtype, device=lower.device).expand_as(lower)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse
