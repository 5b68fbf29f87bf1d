"""The convolutional autoencoder of Bergmann et al. (2018): a picture, a narrow code, the picture again."""

import math

from torch import nn

SLOPE = 0.2
"""Of the leaky ReLUs below zero."""
CORE = 8
"""Side in pixels of the grid that the code is read from; sizes are this times a power of two."""
SMALLEST = 4 * CORE
"""Smallest side of the images, in pixels."""


class ConvEncoder(nn.Sequential):
    """Pictures (N, 3, size, size) → codes (N, outputs, 1, 1)."""

    def __init__(self, size: int, width: int, outputs: int) -> None:
        modules: list[nn.Module] = []
        for kernel, before, after in _layers(size, width):
            modules.append(nn.Conv2d(before, after, kernel, stride=2 if kernel == 4 else 1, padding=1))
            modules.append(nn.LeakyReLU(SLOPE))
        super().__init__(*modules, nn.Conv2d(width, outputs, CORE))


class ConvDecoder(nn.Sequential):
    """Codes (N, code, 1, 1) → pictures (N, 3, size, size) from 0 to 1: the encoder's layers the other way round."""

    def __init__(self, size: int, width: int, code: int) -> None:
        modules: list[nn.Module] = [nn.ConvTranspose2d(code, width, CORE)]
        for kernel, after, before in reversed(_layers(size, width)):
            modules.append(nn.LeakyReLU(SLOPE))
            modules.append(
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)
                if kernel == 4
                else nn.Conv2d(before, after, 3, padding=1)
            )
        super().__init__(*modules, nn.Sigmoid())


def init_conv_autoencoder(network: nn.Module) -> None:
    """Draw weights, by torch's global generator, with which the signal keeps its strength from layer to layer.

    He et al., "Delving Deep into Rectifiers", ICCV 2015. With weaker ones training begins with a long time at the
    average picture, for nothing of the picture arrives at the other end.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, math.sqrt(2 / (1 + SLOPE**2) / _inputs(module)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _inputs(layer: nn.Conv2d | nn.ConvTranspose2d) -> int:
    """How many numbers each number that the layer puts out is a sum of."""
    kernel = layer.kernel_size[0]
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels * kernel**2
    if kernel == CORE:  # from a single cell
        return layer.in_channels
    return layer.in_channels * (kernel // layer.stride[0]) ** 2


def _layers(size: int, width: int) -> list[tuple[int, int, int]]:
    """Side of the kernel, channels in and out, of each layer but the code's; kernels of 4 halve the picture."""
    halvings = (size // CORE).bit_length() - 1
    layers: list[tuple[int, int, int]] = []
    channels = 3
    for left in reversed(range(halvings)):
        after = {0: 4 * width, 1: 2 * width}.get(left, width)
        layers.append((4, channels, after))
        if left in (1, 2):
            layers.append((3, after, after))
        channels = after
    return [*layers, (3, 4 * width, 2 * width), (3, 2 * width, width)]
