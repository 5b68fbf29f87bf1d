"""Images of a bracket, for the tests of the methods without a network, and a method that learned them."""

from typing import TypeVar

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from blemish.methods.base import Method
from blemish.training import learn

M = TypeVar("M", bound=Method)


def learned(method: M, images: Tensor) -> M:
    learn(method, images.numpy(), batch_size=5)
    return method


def parts(count: int, seed: int = 0, size: int = 64) -> Tensor:
    """Normal parts (count, 3, H, W) in [0, 1]: an L-shaped bracket with grain, in slightly varying light."""
    rng = np.random.default_rng(seed)
    drawing = np.zeros((size, size))
    drawing[size // 6 : size // 3, size // 6 : size // 2] = 0.45
    drawing[size // 6 : 3 * size // 4, size // 6 : size // 4] = 0.34
    drawing = ndimage.gaussian_filter(drawing, 1)
    light = 1 + 0.03 * rng.normal(size=(count, 1, 1, 1))
    images = 0.2 + drawing * light + 0.007 * rng.normal(size=(count, 3, size, size))
    return torch.from_numpy(images.astype(np.float32))


def with_defect(images: Tensor, strength: float = 1.0) -> Tensor:
    """The images with a chequered square of 10 × 10 pixels from (40, 40)."""
    images = images.clone()
    checkers = torch.arange(10)[:, None] + torch.arange(10)
    images[:, :, 40:50, 40:50] += 0.22 * strength * (checkers % 2 + 0.5)
    return images
