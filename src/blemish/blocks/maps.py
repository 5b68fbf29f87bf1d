"""From a grid of patch scores to an anomaly map and an image score, with padding kept out of both."""

import torch
from torch import Tensor
from torch.nn import functional


def split_padding(images: Tensor) -> tuple[Tensor, Tensor]:
    """Tell the image from its padding.

    Args:
        images: (N, C, H, W); padded pixels are NaN.

    Returns:
        The images with every padded pixel replaced by its image's mean colour, which makes the weakest edge,
        and the visible pixels, (N, 1, H, W) bool.
    """
    visible = ~torch.isnan(images[:, :1])
    filled = torch.where(visible, images, torch.zeros_like(images))
    count = visible.sum((2, 3), keepdim=True).clamp_min(1)
    mean = filled.sum((2, 3), keepdim=True) / count
    return torch.where(visible, images, mean), visible


def visible_grid(visible: Tensor, size: tuple[int, int]) -> Tensor:
    """Grid cells (N, h, w) of which at least half lies on the image; visible is (N, 1, H, W)."""
    return functional.adaptive_avg_pool2d(visible.to(torch.float32), size)[:, 0] >= 0.5


def mask_grid(grid: Tensor, visible: Tensor) -> Tensor:
    """Give the cells (N, h, w) outside the image the smallest score inside, so that none wins or blurs in."""
    inside = visible_grid(visible, (grid.shape[1], grid.shape[2]))
    lowest = torch.where(inside, grid, torch.full_like(grid, torch.inf)).amin((1, 2), keepdim=True)
    return torch.where(inside, grid, lowest)


def upsample(grid: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Bilinear to (N, H, W), then a Gaussian blur of `sigma` pixels."""
    full = functional.interpolate(grid[:, None], size=size, mode="bilinear", align_corners=False)
    return gaussian_blur(full, sigma)[:, 0]


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
