"""EfficientAD's autoencoder: it predicts the teacher's features of an image from a code of 64 numbers."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

CODE = 64
FRAME = 8
"""Side of the grid before the code."""
DROPOUT = 0.2
BENDS = (3, 8, 15, 32, 63, 127)
"""Sides of the decoder's grids for 256-pixel images; for others they grow in proportion."""


class FeatureAutoencoder(nn.Module):
    """Five halvings, a code of the whole image, and a decoder up to any output size.

    For 256 × 256 pixels it is the authors' network. For other sizes the grid before the code is resized to 8 × 8 as
    in theirs, so that the weights fit all sizes, and the decoder's grids grow in proportion.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        widths = (3, 32, 32, 64, 64, 64)
        halvings = [nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)]
        self.halvings = nn.ModuleList(halvings)
        self.code = nn.Conv2d(CODE, CODE, FRAME)
        self.growths = nn.ModuleList([nn.Conv2d(CODE, CODE, 4, padding=2) for _ in BENDS])
        self.refine = nn.Conv2d(CODE, CODE, 3, padding=1)
        self.head = nn.Conv2d(CODE, outputs, 3, padding=1)

    def forward(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, 3, H, W), at least 32 × 32 → (N, outputs, *size)."""
        x = images
        for halving in self.halvings:
            x = functional.relu(halving(x))
        x = self.code(_resized(x, (FRAME, FRAME)))
        height, width = images.shape[2:]
        for side, growth in zip(BENDS, self.growths, strict=True):
            grid = (max(1, height * side // 256), max(1, width * side // 256))
            x = functional.relu(growth(_resized(x, grid)))
            x = functional.dropout(x, DROPOUT, self.training)
        features: Tensor = self.head(functional.relu(self.refine(_resized(x, size))))
        return features


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[2:]) == size:
        return x
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
