"""The convolutional autoencoder of Bergmann et al. (2018)."""

import math

from torch import nn

SLOPE = 0.2
"""Slope of the leaky ReLUs below zero."""
CORE = 8
"""Side of the smallest grid, which becomes the code; image sizes are this times a power of two."""
SMALLEST = 4 * CORE
"""Smallest side of the images, in pixels."""


class ConvEncoder(nn.Sequential):
    """Images (N, 3, size, size) → codes (N, outputs, 1, 1)."""

    def __init__(self, size: int, width: int, outputs: int) -> None:
        modules: list[nn.Module] = []
        for kernel, before, after in _layers(size, width):
            modules.append(nn.Conv2d(before, after, kernel, stride=2 if kernel == 4 else 1, padding=1))
            modules.append(nn.LeakyReLU(SLOPE))
        super().__init__(*modules, nn.Conv2d(width, outputs, CORE))


class ConvDecoder(nn.Sequential):
    """Codes (N, code, 1, 1) → images (N, 3, size, size) from 0 to 1: the encoder's layers in reverse order."""

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
    """Draw weights that keep the variance of the signal from layer to layer, with torch's global generator.

    He et al., "Delving Deep into Rectifiers", ICCV 2015. With smaller weights the signal vanishes, and
    training stays at the mean image for a long time.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, math.sqrt(2 / (1 + SLOPE**2) / _inputs(module)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _inputs(layer: nn.Conv2d | nn.ConvTranspose2d) -> int:
    """Number of inputs that each output of the layer depends on."""
    kernel = layer.kernel_size[0]
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels * kernel**2
    if kernel == CORE:  # from a single cell
        return layer.in_channels
    return layer.in_channels * (kernel // layer.stride[0]) ** 2


def _layers(size: int, width: int) -> list[tuple[int, int, int]]:
    """(kernel size, input channels, output channels) of each layer except the code's; kernels of 4 halve the image."""
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
