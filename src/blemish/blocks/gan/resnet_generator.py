"""The translator of Cycle-GAN (Zhu et al., 2017): a picture of one domain as it would look in the other.

No convolution before an instance norm has a bias: the norm takes the mean away again.
"""

import torch
from torch import Tensor, nn


class ResNetGenerator(nn.Sequential):
    """Pictures (N, 3, H, W) from -1 to 1 → pictures of the same size and range; sides are multiples of 4, from 8 on.

    Args:
        width: Channels at the picture's resolution; four times as many where it is a quarter of it.
        blocks: Residual blocks at that quarter.
    """

    def __init__(self, width: int, blocks: int) -> None:
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


class _ResidualBlock(nn.Module):
    """Adds to the features (N, C, h, w) what two convolutions make of them."""

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
    """Both sides exactly twice as long."""
    return nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1, bias=False)
