"""PatchGAN (Isola et al., 2017): a discriminator that judges a picture patch by patch."""

from torch import nn

SLOPE = 0.2
"""Of the leaky ReLUs below zero."""
LAYERS = 3
"""Halvings of the picture; each score sees 70 × 70 pixels."""


class PatchGAN(nn.Sequential):
    """Pictures (N, 3, H, W) → scores (N, 1, H/8 - 2, W/8 - 2), one per patch and without a sigmoid; sides from 32 on.

    Args:
        width: Channels after the first layer; twice as many after each other one.
    """

    def __init__(self, width: int) -> None:
        modules: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        for number in range(1, LAYERS + 1):
            before, after = width * 2 ** (number - 1), width * 2**number
            stride = 2 if number < LAYERS else 1
            # No bias: the norm would take it away again.
            modules.append(nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False))
            modules.append(nn.InstanceNorm2d(after))
            modules.append(nn.LeakyReLU(SLOPE))
        super().__init__(*modules, nn.Conv2d(width * 2**LAYERS, 1, 4, padding=1))
