"""Structural similarity (Wang et al., 2004) at each pixel."""

import torch
from torch import Tensor
from torch.nn import functional

WINDOW = 11
SPREAD = 1.5
"""Standard deviation of the Gaussian window, in pixels."""
LUMINANCE_FLOOR, CONTRAST_FLOOR = 0.01**2, 0.03**2
"""The constants C₁ and C₂ for values from 0 to 1."""


def ssim_map(images: Tensor, others: Tensor) -> Tensor:
    """Similarity (N, C, H, W) of two batches with values from 0 to 1; 1 where equal; edges are mirrored."""
    channels = images.shape[1]
    moments = torch.cat([images, others, images.square(), others.square(), images * others], dim=1)
    mean, other_mean, square, other_square, product = _averaged(moments).split(channels, dim=1)
    variances = square - mean.square() + other_square - other_mean.square()
    covariance = product - mean * other_mean
    luminance: Tensor = (2 * mean * other_mean + LUMINANCE_FLOOR) / (
        mean.square() + other_mean.square() + LUMINANCE_FLOOR
    )
    contrast: Tensor = (2 * covariance + CONTRAST_FLOOR) / (variances + CONTRAST_FLOOR)
    return luminance * contrast


def _averaged(images: Tensor) -> Tensor:
    """Gaussian mean over each pixel's window."""
    channels = images.shape[1]
    offsets = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / SPREAD).square())
    weights = weights / weights.sum()
    rows = weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    columns = weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    mirrored = functional.pad(images, (WINDOW // 2,) * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(mirrored, rows, groups=channels), columns, groups=channels)
