"""What keeps a discriminator from learning few training images by heart."""

import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.sliding_windows import random_windows

REACH = 16
"""Pictures move by up to this part of their sides."""
NOISE = 0.1
"""Standard deviation, for values from -1 to 1."""


def diff_augment(pictures: Tensor) -> Tensor:
    """Pictures (N, C, size, size), each shifted by a step of its own, with mirrored edges, under Gaussian noise.

    Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020: what is done to real
    pictures and to made ones alike is not copied by the generator. Gradients pass. torch's global generator draws.
    """
    size = pictures.shape[-1]
    moved = random_windows(functional.pad(pictures, (size // REACH,) * 4, mode="reflect"), size)
    return moved + NOISE * torch.randn_like(moved)
