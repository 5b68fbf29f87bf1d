"""The residual networks of the improved Wasserstein GAN (Gulrajani et al., 2017), for pictures of any power of two.

A convolution with the doubling before it, or the halving after it, is computed as one of stride 2 with a kernel of
4 × 4 made of the 3 × 3 weights: the same numbers for less than half the work.
"""

import math
from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

Norm = Callable[[int], nn.Module]
CORE = 4
"""Side in pixels of the grid between codes and pictures."""
SMALLEST = 2 * CORE
"""Smallest side of the images, in pixels."""
WIDEST = 8
"""Most channels of a layer, in units of those next to the picture."""


class HalvedConv(nn.Conv2d):
    """A 3 × 3 convolution, then the mean of each 2 × 2 pixels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        kernel = functional.avg_pool2d(self.weight, 2, stride=1, padding=1)
        return functional.conv2d(input, kernel, self.bias, stride=2, padding=1)


class DoubledConv(nn.Conv2d):
    """Each pixel twice in both directions, then a 3 × 3 convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        kernel = 4 * functional.avg_pool2d(self.weight.flip(2, 3), 2, stride=1, padding=1)
        return functional.conv_transpose2d(input, kernel.transpose(0, 1), stride=2, padding=1)


class ResidualBlock(nn.Module):
    """What a branch of norm, ReLU and convolution, twice, adds to a 1 × 1 convolution of its input."""

    def __init__(self, shortcut: nn.Module, branch: nn.Sequential) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.branch = branch

    def forward(self, grid: Tensor) -> Tensor:
        total: Tensor = self.shortcut(grid) + self.branch(grid)
        return total


class ResidualGenerator(nn.Module):
    """Codes (N, code) → pictures (N, 3, size, size) from -1 to 1, with batch norm."""

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
        pictures: Tensor = self.blocks(self.core(codes).unflatten(1, (-1, CORE, CORE)))
        return pictures


class ResidualBody(nn.Sequential):
    """Pictures (N, 3, size, size) → the last block's numbers (N, `features`)."""

    def __init__(self, size: int, width: int, norm: Norm) -> None:
        channels = _channels(size, width)
        super().__init__(
            nn.Conv2d(3, width, 3, padding=1),
            *(_halving(before, after, norm) for before, after in pairwise(channels)),
            nn.Flatten(),
        )
        self.features = channels[-1] * CORE**2


class ResidualCritic(nn.Module):
    """Pictures (N, 3, size, size) → scores (N,); its norm is over all numbers of one picture, its body a feature."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.body = ResidualBody(size, width, layer_norm)
        self.head = nn.Linear(self.body.features, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(pictures)).squeeze(1)
        return scores


class ResidualEncoder(nn.Sequential):
    """Pictures (N, 3, size, size) → codes (N, code), with batch norm; with `tanh` they are from -1 to 1."""

    def __init__(self, size: int, width: int, code: int, *, tanh: bool) -> None:
        body = ResidualBody(size, width, nn.BatchNorm2d)
        super().__init__(body, nn.Linear(body.features, code), nn.Tanh() if tanh else nn.Identity())


def layer_norm(channels: int) -> nn.GroupNorm:
    """Over channels and pixels of one picture together, with a gain and an offset per channel."""
    return nn.GroupNorm(1, channels)


def init_residual_gan(network: nn.Module) -> None:
    """Draw all weights anew, by torch's global generator, and forget what batch norm has seen."""
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
    """Channels before each halving and after the last, from the picture on."""
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
