"""Upsampling of patch scores to an anomaly map, Gaussian blur, and the mean of the highest scores."""

import torch
from torch import Tensor
from torch.nn import functional


def upsample(grid: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Bilinear to (N, H, W), then a Gaussian blur of `sigma` pixels."""
    full = functional.interpolate(grid[:, None], size=size, mode="bilinear", align_corners=False)
    return gaussian_blur(full, sigma)[:, 0]


def top_mean(scores: Tensor, share: float) -> Tensor:
    """Mean (N,) of the highest of each image's scores (N, H, W): of this share of them, but at least of one."""
    flat = scores.flatten(1)
    return flat.topk(max(1, int(share * flat.shape[1])), dim=1).values.mean(1)


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian over (N, C, H, W), cut at 4 sigma (as scipy.ndimage), edges repeated."""
    if sigma <= 0:
        return images
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    channels = images.shape[1]
    rows = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    columns = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    images = functional.conv2d(
        functional.pad(images, (radius, radius, 0, 0), mode="replicate"), rows, groups=channels
    )
    return functional.conv2d(
        functional.pad(images, (0, 0, radius, radius), mode="replicate"), columns, groups=channels
    )
