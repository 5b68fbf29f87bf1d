"""Augmentation of real and generated images, against overfitting of the discriminator to few images."""

import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.sliding_windows import random_windows

REACH = 16
"""Images are shifted by up to 1/16 of their sides."""
NOISE = 0.1
"""Standard deviation of the noise, for values from -1 to 1."""


def diff_augment(images: Tensor) -> Tensor:
    """Shift each of the images (N, C, size, size) at random, with mirrored edges, and add Gaussian noise.

    Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020. Applied to real
    and generated images alike, it is not learned by the generator. Differentiable. Draws from torch's global generator.
    """
    size = images.shape[-1]
    moved = random_windows(functional.pad(images, (size // REACH,) * 4, mode="reflect"), size)
    return moved + NOISE * torch.randn_like(moved)
