"""PatchGAN (Isola et al., 2017): a discriminator that scores each patch of an image."""

from torch import nn

SLOPE = 0.2
"""Slope of the leaky ReLUs below zero."""
LAYERS = 3
"""Layers after the first one; with 3, the receptive field of a score is 70 × 70 pixels."""


class PatchGAN(nn.Sequential):
    """Images (N, 3, H, W) → scores (N, 1, H/8 - 2, W/8 - 2), one per patch, without a sigmoid; H and W at least 32.

    Args:
        width: Channels after the first layer; each further layer doubles them.
    """

    def __init__(self, width: int) -> None:
        modules: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        for number in range(1, LAYERS + 1):
            before, after = width * 2 ** (number - 1), width * 2**number
            stride = 2 if number < LAYERS else 1
            # No bias: the norm subtracts it.
            modules.append(nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False))
            modules.append(nn.InstanceNorm2d(after))
            modules.append(nn.LeakyReLU(SLOPE))
        super().__init__(*modules, nn.Conv2d(width * 2**LAYERS, 1, 4, padding=1))
