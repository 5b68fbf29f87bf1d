"""Changes of light and colour that leave every pixel where it is."""

import torch
from torch import Tensor

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value (ITU-R BT.601)."""


def colour_jitter(pictures: Tensor, reach: float) -> Tensor:
    """Pictures (N, 3, H, W) in [0, 1], each with another brightness, contrast or saturation.

    One of the three is multiplied by a factor from 1 - reach to 1 + reach; torch's global generator draws.
    """
    count = len(pictures)
    weights = torch.tensor(LUMINANCE, device=pictures.device).view(3, 1, 1)
    grey = (pictures * weights).sum(1, keepdim=True)
    plain = grey.mean((2, 3), keepdim=True).expand_as(grey)
    unchanged = torch.stack([torch.zeros_like(grey), plain, grey])  # by brightness, contrast, saturation
    centre = unchanged[torch.randint(3, (count,)), torch.arange(count)]
    factor = 1 + reach * (2 * torch.rand(count, 1, 1, 1) - 1).to(pictures.device)
    return (centre + factor * (pictures - centre)).clamp(0, 1)
