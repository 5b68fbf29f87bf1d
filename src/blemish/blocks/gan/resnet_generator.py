"""The generator of Cycle-GAN (Zhu et al., 2017), which translates images from one domain to another.

Convolutions before an instance norm have no bias, since the norm subtracts the mean. The norms also remove the image's
own mean and contrast, so the published generator gives the same output for a dark and a bright image. Here it can
translate the standardised image and give its mean and contrast back.
"""

import torch
from torch import Tensor, nn

REACH = 3.0
"""Deviations from an image's mean that a standardised output can reach."""
SMALLEST = 0.01
"""Lower bound of an image's deviation, so that an even image is not divided by zero."""


class ResNetGenerator(nn.Sequential):
    """Images (N, 3, H, W) from -1 to 1 → images of the same size; H and W are multiples of 4, at least 8.

    Args:
        width: Channels at the image's resolution; four times as many at a quarter of it.
        blocks: Residual blocks, at a quarter of the resolution.
        standardised: Whether the network translates the image with its mean and deviation removed, and its output gets
            them back; values are then within `REACH` deviations of the mean.
    """

    def __init__(self, width: int, blocks: int, *, standardised: bool = False) -> None:
        super().__init__(
            *_normalised(nn.Conv2d(3, width, 7, padding=3, padding_mode="reflect", bias=False)),
            *_normalised(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)),
            *_normalised(nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1, bias=False)),
            *(_ResidualBlock(4 * width) for _ in range(blocks)),
            *_normalised(_doubling(4 * width, 2 * width)),
            *_normalised(_doubling(2 * width, width)),
            nn.Conv2d(width, 3, 7, padding=3, padding_mode="reflect"),
            nn.Tanh(),
        )
        self.standardised = standardised

    def forward(self, images: Tensor) -> Tensor:
        if not self.standardised:
            return self._translated(images)
        mean = images.mean((2, 3), keepdim=True)
        width = REACH * (images - mean).square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(SMALLEST)
        return mean + width * self._translated((images - mean) / width)

    def _translated(self, images: Tensor) -> Tensor:
        for layer in self:
            images = layer(images)
        return images


class _ResidualBlock(nn.Module):
    """Features (N, C, h, w) plus two convolutions of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False) for _ in range(2)
        )
        self.change = nn.Sequential(*_normalised(first), second, nn.InstanceNorm2d(channels))

    def forward(self, features: Tensor) -> Tensor:
        return torch.add(features, self.change(features))


def _normalised(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [convolution, nn.InstanceNorm2d(convolution.out_channels), nn.ReLU()]


def _doubling(before: int, after: int) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles both sides exactly."""
    return nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1, bias=False)
