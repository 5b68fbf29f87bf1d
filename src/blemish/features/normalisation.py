"""Normalises images in [0, 1] with the mean and std of a pretrained network's training."""

import torch
from torch import Tensor, nn

from blemish.features import imagenet


class Normalise(nn.Module):
    """(images - mean) / std per RGB channel. Both are buffers, so that they are saved with a model."""

    mean: Tensor  # (3, 1, 1)
    std: Tensor  # (3, 1, 1)

    def __init__(self, mean: imagenet.RGB = imagenet.MEAN, std: imagenet.RGB = imagenet.STD) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] → (N, 3, H, W) normalised."""
        return (images - self.mean) / self.std
