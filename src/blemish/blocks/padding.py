"""Handling of padding (NaN in a network's input), so that it affects neither features nor scores."""

import torch
from torch import Tensor
from torch.nn import functional

ROUNDED = 0.999
"""Factor below 1 that makes shares equal which differ by rounding."""


def split_padding(images: Tensor) -> tuple[Tensor, Tensor]:
    """Separate each image from what is not part of it and fill that, so that filters see no strong edge there.

    Padding around the image is filled by reflection, what is ignored inside with the image's mean colour.

    Args:
        images: (N, C, H, W); pixels that are not part of the image are NaN.

    Returns:
        The images without NaN, and which pixels are visible, (N, 1, H, W) bool.
    """
    visible = ~torch.isnan(images[:, :1])
    rows = _mirrored(visible.any(3))[:, :, :, None].expand_as(images)
    columns = _mirrored(visible.any(2))[:, :, None, :].expand_as(images)
    filled = images.gather(2, rows).gather(3, columns)
    seen = torch.where(visible, images, torch.zeros_like(images))
    mean = seen.sum((2, 3), keepdim=True) / visible.sum((2, 3), keepdim=True).clamp_min(1)
    return torch.where(torch.isnan(filled), mean, filled), visible


def visible_grid(visible: Tensor, size: tuple[int, int]) -> Tensor:
    """Which grid cells (N, h, w) lie on the image by at least half; visible is (N, 1, H, W).

    If no cell of an image does, as for a narrow strip between paddings, those with the largest share of it.
    """
    share = functional.adaptive_avg_pool2d(visible.to(torch.float32), size)[:, 0]
    largest = share.amax((1, 2), keepdim=True)
    return share >= (ROUNDED * largest).clamp_max(0.5)


def mask_grid(grid: Tensor, visible: Tensor) -> Tensor:
    """Set cells (N, h, w) outside the image to the smallest score inside, which leaves maximum and blur unaffected."""
    inside = visible_grid(visible, (grid.shape[1], grid.shape[2]))
    lowest = torch.where(inside, grid, torch.full_like(grid, torch.inf)).amin((1, 2), keepdim=True)
    return torch.where(inside, grid, lowest)


def _mirrored(visible: Tensor) -> Tensor:
    """Index (N, 1, L) of the visible pixel that fills each of L pixels; visible is (N, 1, L)."""
    length = visible.shape[-1]
    first = visible.to(torch.int64).argmax(-1, keepdim=True)
    last = first + visible.sum(-1, keepdim=True) - 1
    period = (2 * (last - first)).clamp_min(1)
    offset = torch.remainder(torch.arange(length, device=visible.device) - first, period)
    return first + torch.minimum(offset, period - offset)
