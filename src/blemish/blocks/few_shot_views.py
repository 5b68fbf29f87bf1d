"""The 22 views of each image from which few-shot methods estimate distributions, as in RegAD (ECCV 2022)."""

import math
from dataclasses import dataclass

from torch import Tensor

from blemish.blocks.spatial_transformer import warp
from blemish.blocks.synthetic.colour_jitter import grey_values


@dataclass(frozen=True, slots=True)
class View:
    """A change of an image that leaves it normal."""

    angle: float = 0.0
    """Rotation in degrees."""
    shift: tuple[float, float] = (0.0, 0.0)
    """x and y, as shares of half the width and half the height."""
    mirrored: bool = False
    grey: bool = False

    def of(self, images: Tensor) -> Tensor:
        """The view of images (N, C, H, W); what comes into it from outside is mirrored at the edges."""
        if self.grey:
            images = grey_values(images).expand_as(images)
        if self.mirrored:
            images = images.flip(3)
        if not self.angle and not any(self.shift):
            return images
        angle = math.radians(self.angle)
        matrix = images.new_tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return warp(images, matrix.expand(len(images), 2, 2), self.shift).clamp(0, 1)


AS_IT_IS = View()
VIEWS = (
    AS_IT_IS,
    *(View(angle=sign * step * 11.25) for step in (1, 2, 3, 4) for sign in (1, -1)),
    *(View(shift=(x * size, y * size)) for size in (0.1, 0.2) for x in (1, -1) for y in (1, -1)),
    View(mirrored=True),
    View(grey=True),
    *(View(angle=angle) for angle in (90.0, 180.0, 270.0)),
)
"""The image itself, 8 rotations, 8 shifts, mirrored, grey, and 3 quarter turns."""
