"""The U-Net of Ronneberger et al. (2015), with output of the input's size.

Differs from the paper: convolutions are padded, each is followed by GroupNorm and SiLU, downsampling is by mean
pooling and upsampling by repeating pixels.
"""

from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUPS = 8
"""Groups of channels that are normalised together; fewer where the channels are not divisible."""


class UNet(nn.Module):
    """Images (N, inputs, H, W) → (N, outputs, H, W), unbounded; H and W must be divisible by 2^depth.

    Args:
        width: Channels at full size; they double with each halving.
        depth: Number of halvings.
        inputs: Channels of the images.
        outputs: Channels of the output.
    """

    def __init__(self, width: int, depth: int, inputs: int = 3, outputs: int = 3) -> None:
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        before = [inputs, *widths[:-1]]
        self.down = nn.ModuleList(_level(a, b) for a, b in zip(before, widths, strict=True))
        self.up = nn.ModuleList(_level(3 * width, width) for width in reversed(widths[:-1]))
        self.last = nn.Conv2d(width, outputs, 1)

    def reset_parameters(self) -> None:
        """Draw the convolutions' weights with torch's global generator; set the norms' weights to 1 and biases to 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.GroupNorm):
                module.reset_parameters()

    def forward(self, images: Tensor) -> Tensor:
        features, skipped = images, []
        for number, level in enumerate(self.down):
            features = level(functional.avg_pool2d(features, 2) if number else features)
            skipped.append(features)
        skipped.pop()
        for level in self.up:
            enlarged = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = level(torch.cat([enlarged, skipped.pop()], dim=1))
        outputs: Tensor = self.last(features)
        return outputs


def _level(before: int, after: int) -> nn.Sequential:
    """Two convolutions at one size."""
    modules: list[nn.Module] = []
    for channels in (before, after):
        modules += [
            nn.Conv2d(channels, after, 3, padding=1),
            nn.GroupNorm(gcd(GROUPS, after), after),
            nn.SiLU(),
        ]
    return nn.Sequential(*modules)
