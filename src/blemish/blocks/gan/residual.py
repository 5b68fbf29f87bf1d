"""The residual networks of the improved Wasserstein GAN (Gulrajani et al., 2017), for sizes that are powers of two.

A convolution with upsampling before it, or mean pooling after it, is computed as one convolution of stride 2 with a
4 × 4 kernel computed from the 3 × 3 weights: the same result at less than half the cost.
"""

import math
from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

Norm = Callable[[int], nn.Module]
CORE = 4
"""Side of the smallest grid, between codes and images."""
SMALLEST = 2 * CORE
"""Smallest side of the images, in pixels."""
WIDEST = 8
"""Largest number of channels of a layer, as a multiple of `width`."""


class HalvedConv(nn.Conv2d):
    """A 3 × 3 convolution, then 2 × 2 mean pooling."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        kernel = functional.avg_pool2d(self.weight, 2, stride=1, padding=1)
        return functional.conv2d(input, kernel, self.bias, stride=2, padding=1)


class DoubledConv(nn.Conv2d):
    """Nearest-neighbour upsampling by 2, then a 3 × 3 convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        kernel = 4 * functional.avg_pool2d(self.weight.flip(2, 3), 2, stride=1, padding=1)
        return functional.conv_transpose2d(input, kernel.transpose(0, 1), stride=2, padding=1)


class ResidualBlock(nn.Module):
    """The sum of a 1 × 1 convolution and a branch of norm, ReLU and convolution, twice."""

    def __init__(self, shortcut: nn.Module, branch: nn.Sequential) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.branch = branch

    def forward(self, grid: Tensor) -> Tensor:
        total: Tensor = self.shortcut(grid) + self.branch(grid)
        return total


class ResidualGenerator(nn.Module):
    """Codes (N, code) → images (N, 3, size, size) from -1 to 1, with batch norm."""

    def __init__(self, size: int, width: int, code: int) -> None:
        super().__init__()
        channels = _channels(size, width)[::-1]
        self.core = nn.Linear(code, channels[0] * CORE**2)
        self.blocks = nn.Sequential(
            *(_doubling(before, after) for before, after in pairwise(channels)),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 3, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, codes: Tensor) -> Tensor:
        images: Tensor = self.blocks(self.core(codes).unflatten(1, (-1, CORE, CORE)))
        return images


class ResidualBody(nn.Sequential):
    """Images (N, 3, size, size) → the flattened output of the last block (N, `features`)."""

    def __init__(self, size: int, width: int, norm: Norm) -> None:
        channels = _channels(size, width)
        super().__init__(
            nn.Conv2d(3, width, 3, padding=1),
            *(_halving(before, after, norm) for before, after in pairwise(channels)),
            nn.Flatten(),
        )
        self.features = channels[-1] * CORE**2


class ResidualCritic(nn.Module):
    """Images (N, 3, size, size) → scores (N,), with layer norm; the output of `body` also serves as features."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.body = ResidualBody(size, width, layer_norm)
        self.head = nn.Linear(self.body.features, 1)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(images)).squeeze(1)
        return scores


class ResidualEncoder(nn.Sequential):
    """Images (N, 3, size, size) → codes (N, code), with batch norm; from -1 to 1 if `tanh`."""

    def __init__(self, size: int, width: int, code: int, *, tanh: bool) -> None:
        body = ResidualBody(size, width, nn.BatchNorm2d)
        super().__init__(body, nn.Linear(body.features, code), nn.Tanh() if tanh else nn.Identity())


def layer_norm(channels: int) -> nn.GroupNorm:
    """Normalisation over the channels and pixels of each image, with a gain and an offset per channel."""
    return nn.GroupNorm(1, channels)


def init_residual_gan(network: nn.Module) -> None:
    """Initialise all weights with torch's global generator and reset batch norm's statistics."""
    residual = {m for block in network.modules() if isinstance(block, ResidualBlock) for m in block.branch}
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module in residual:
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            module.reset_parameters()


def _channels(size: int, width: int) -> list[int]:
    """Channels before each halving and after the last one, from the image to the core."""
    return [width * min(2**level, WIDEST) for level in range(int(math.log2(size // CORE)) + 1)]


def _halving(before: int, after: int, norm: Norm) -> ResidualBlock:
    return ResidualBlock(
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, after, 1)),
        nn.Sequential(
            norm(before),
            nn.ReLU(),
            nn.Conv2d(before, before, 3, padding=1, bias=False),
            norm(before),
            nn.ReLU(),
            HalvedConv(before, after),
        ),
    )


def _doubling(before: int, after: int) -> ResidualBlock:
    return ResidualBlock(
        nn.Sequential(nn.Conv2d(before, after, 1), nn.Upsample(scale_factor=2)),
        nn.Sequential(
            nn.BatchNorm2d(before),
            nn.ReLU(),
            DoubledConv(before, after),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1),
        ),
    )
