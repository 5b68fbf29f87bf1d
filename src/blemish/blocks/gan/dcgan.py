"""The networks of DCGAN (Radford et al., 2016): pyramids from an image to 4 × 4 cells and back."""

from collections import OrderedDict

import torch
from torch import nn

SLOPE = 0.2
"""Slope of the leaky ReLUs below zero."""
CORE = 4
"""Side of the smallest grid; image sizes are this times a power of two."""
SMALLEST = 4 * CORE
"""Smallest side of the images, in pixels."""
SPREAD = 0.02
"""Standard deviation of the initial weights."""


class Downsampler(nn.Sequential):
    """Images (N, 3, size, size) → (N, C, 4, 4); channels double from `width` on, up to `most`."""

    def __init__(self, size: int, width: int, most: int) -> None:
        modules: list[nn.Module] = []
        before = 3
        for after in pyramid_channels(size, width, most):
            modules.append(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False))
            if len(modules) > 1:  # no batch norm next to the image: training would be unstable
                modules.append(nn.BatchNorm2d(after))
            modules.append(nn.LeakyReLU(SLOPE))
            before = after
        super().__init__(*modules)


class Encoder(nn.Sequential):
    """Images (N, 3, size, size) → codes (N, code, 1, 1): a pyramid, `features`, and a convolution, `head`."""

    def __init__(self, size: int, width: int, most: int, code: int) -> None:
        last = pyramid_channels(size, width, most)[-1]
        head = nn.Conv2d(last, code, CORE, bias=False)
        super().__init__(OrderedDict(features=Downsampler(size, width, most), head=head))
        self.features: nn.Module
        self.head: nn.Module


class Discriminator(Encoder):
    """Images (N, 3, size, size) → logits (N, 1, 1, 1) of being real."""

    def __init__(self, size: int, width: int, most: int) -> None:
        super().__init__(size, width, most, code=1)


class Generator(nn.Sequential):
    """Codes (N, code, 1, 1) → images (N, 3, size, size) from -1 to 1: the downsampler's layers in reverse order."""

    def __init__(self, size: int, width: int, most: int, code: int) -> None:
        first, *others = reversed(pyramid_channels(size, width, most))
        modules: list[nn.Module] = [nn.ConvTranspose2d(code, first, CORE, bias=False)]
        before = first
        for after in (*others, 3):
            modules.extend([nn.BatchNorm2d(before), nn.ReLU()])
            modules.append(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False))
            before = after
        super().__init__(*modules, nn.Tanh())


def pyramid_channels(size: int, width: int, most: int) -> list[int]:
    """Number of channels after each halving of an image of `size` × `size` pixels, `size` a power of two."""
    halvings = (size // CORE).bit_length() - 1
    return [min(width << halving, most) for halving in range(halvings)]


def init_dcgan(network: nn.Module) -> None:
    """Initialise: weights from torch's global generator, biases 0, batch norms without statistics."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, SPREAD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.normal_(module.weight, 1, SPREAD)
            nn.init.zeros_(module.bias)


def dcgan_optimizers(
    generator: nn.Module, discriminator: nn.Module, learning_rate: float, discriminator_learning_rate: float
) -> dict[str, torch.optim.Optimizer]:
    """One Adam each, with the authors' β₁ of 0.5."""
    betas = (0.5, 0.999)
    return {
        "generator": torch.optim.Adam(generator.parameters(), learning_rate, betas),
        "discriminator": torch.optim.Adam(discriminator.parameters(), discriminator_learning_rate, betas),
    }
