"""Random changes of brightness, contrast and saturation; grey values."""

import torch
from torch import Tensor

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value (ITU-R BT.601)."""


def colour_jitter(images: Tensor, reach: float) -> Tensor:
    """Change the brightness, contrast or saturation of each of the images (N, 3, H, W), values in [0, 1].

    One of the three is multiplied by a factor from 1 - reach to 1 + reach, drawn by torch's global generator.
    """
    count = len(images)
    grey = grey_values(images)
    plain = grey.mean((2, 3), keepdim=True).expand_as(grey)
    unchanged = torch.stack([torch.zeros_like(grey), plain, grey])  # by brightness, contrast, saturation
    centre = unchanged[torch.randint(3, (count,)), torch.arange(count)]
    factor = 1 + reach * (2 * torch.rand(count, 1, 1, 1) - 1).to(images.device)
    return (centre + factor * (images - centre)).clamp(0, 1)


def grey_values(images: Tensor) -> Tensor:
    """The grey values (N, 1, H, W) of images (N, 3, H, W)."""
    weights = torch.tensor(LUMINANCE, device=images.device).view(3, 1, 1)
    return (images * weights).sum(1, keepdim=True)
