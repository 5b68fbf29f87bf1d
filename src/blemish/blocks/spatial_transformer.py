"""Spatial transformers: networks that choose a rotation and scales for a feature map, and the warp that applies them.

Jaderberg et al., "Spatial Transformer Networks", NeurIPS 2015; the layers are those of RegAD (ECCV 2022).
Differs from both: matrices act on pixels, so that a rotation of a map that is not square does not shear it; maps of any
size are resized to `side` before a matrix is derived from them; scales are limited, so that a matrix has an inverse.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN = 1024
SMALLEST_SCALE, LARGEST_SCALE = 0.5, 2.0


class SpatialTransformer(nn.Module):
    """A small network that derives a matrix for `warp`, a rotation and a scale of each axis, from a feature map.

    Args:
        channels: Number of channels of the feature map.
        side: Height and width to which it is resized for this purpose.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(64, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.Flatten(),
            nn.Linear(16 * (-(-side // 4)) ** 2, HIDDEN),
            nn.ReLU(),
        )
        self.last = nn.Linear(HIDDEN, 3)

    def init_identity(self) -> None:
        """Draw the weights at random, except those of the last layer, which makes all matrices the identity."""
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
                layer.reset_parameters()
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.last.bias.data[1:] = 1

    def forward(self, features: Tensor) -> Tensor:
        """Matrices (N, 2, 2) from features (N, C, h, w)."""
        size = (self.side, self.side)
        resized = functional.interpolate(features, size=size, mode="bilinear", align_corners=False)
        angle, scale_x, scale_y = self.last(self.layers(resized.contiguous())).unbind(1)
        return rotation_scale(angle, scale_x, scale_y)


def rotation_scale(angle: Tensor, scale_x: Tensor, scale_y: Tensor) -> Tensor:
    """Matrices (N, 2, 2) of RegAD's kind: rotations whose diagonals are multiplied by the scales."""
    scale_x, scale_y = (scale.clamp(SMALLEST_SCALE, LARGEST_SCALE) for scale in (scale_x, scale_y))
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([cosine * scale_x, -sine, sine, cosine * scale_y], 1).view(-1, 2, 2)


def inverse(matrices: Tensor) -> Tensor:
    """Inverses of matrices (N, 2, 2), written out, because exporters have no operator for it."""
    a, b, c, d = matrices.flatten(1).unbind(1)
    return torch.stack([d, -b, -c, a], 1).view(-1, 2, 2) / (a * d - b * c).view(-1, 1, 1)


def warp(maps: Tensor, matrices: Tensor, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Resample maps (N, C, H, W): result(p) = map(M p + shift), p in pixels from the centre; edges are mirrored.

    Args:
        maps: Without NaN.
        matrices: (N, 2, 2), for vectors (x, y).
        shift: x and y, as shares of half the width and half the height.
    """
    height, width = maps.shape[2:]
    x = ((2 * torch.arange(width, device=maps.device) + 1) / width - 1)[None, None]  # -1 and 1 are the edges
    y = ((2 * torch.arange(height, device=maps.device) + 1) / height - 1)[None, :, None]
    a, b, c, d = (entry.view(-1, 1, 1) for entry in matrices.flatten(1).unbind(1))
    moved_x = a * x + b * (height / width) * y + shift[0]
    moved_y = c * (width / height) * x + d * y + shift[1]
    grid = torch.stack([moved_x, moved_y], 3).to(maps.dtype)
    return functional.grid_sample(maps, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
