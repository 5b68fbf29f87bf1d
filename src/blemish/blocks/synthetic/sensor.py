"""Random changes of images by light and sensor, which are no defects."""

import torch
from torch import Tensor


def lighten(images: Tensor, reach: float) -> Tensor:
    """Multiply each of the images (N, 3, H, W), values in [0, 1], by a random factor from 1 − reach to 1 + reach."""
    factors = 1 + reach * (2 * torch.rand(len(images), 1, 1, 1) - 1)
    return (images * factors.to(images.device)).clamp(0, 1)


def salt_and_pepper(images: Tensor, most: float) -> Tensor:
    """Set a random share, up to `most`, of the pixels of each of the images (N, 3, H, W) to 0 or 1."""
    shape = (len(images), 1, *images.shape[2:])
    is_noise = torch.rand(shape) < most * torch.rand(len(images), 1, 1, 1)
    noise = torch.randint(2, shape).to(images)
    return torch.where(is_noise.to(images.device), noise, images)
