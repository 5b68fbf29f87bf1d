"""Template: difference from a golden template that is registered to each image.

The golden-template comparison of machine-vision practice, with the median of aligned normal images as the template.
Differs from the practice: the template is moved onto the image, so the map needs no inverse transform; brightness is
matched over the whole image, because a match within small neighbourhoods would also remove large defects.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.classical.registration import coverage, register, warp
from blemish.blocks.padding import mask_grid, split_padding
from blemish.blocks.sampling import evenly_spaced
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method
from blemish.types import Prediction

AT_ONCE = 8
"""Number of training images that are registered together."""
OUTLIER_SCALE = 0.045
"""Difference that halves a pixel's weight in the brightness match, on the 0 to 1 scale (11 of 255 grey levels)."""
GAIN_RIDGE = 0.05
"""Sum of squares that is added to covariance and variance of the gain, so that it is 1 for images without contrast."""


class Template(Method):
    """Smallest difference between a pixel and the template within a few pixels of the same position.

    Where no rigid motion makes image and template clearly more similar, they are compared without motion. The image
    score is the maximum of the anomaly map, in grey values on the 0 to 1 scale. At most `images` training images
    stay in memory (twice 50 MB at the defaults and 256 px).
    """

    tolerance: int = argument(1, "Distance that an edge may lie from the template's, in pixels.", ge=0, le=32)
    match_brightness: bool = argument(True, "Whether brightness is matched by a gain and an offset.")
    largest_angle: float = argument(10.0, "Largest rotation that is searched for, in degrees.", ge=0, le=180)
    images: int = arguments.images(64)
    sigma: float = arguments.sigma()

    exports: bool = False
    exports_reason: ClassVar[str] = "It registers the template to each image, which takes Fourier transforms."

    def build(self) -> None:
        self.template: Tensor  # (3, H, W): median of the aligned training images
        self.register_buffer("template", torch.empty(0))

    def collect(self, batches: Batches) -> None:
        kept = evenly_spaced(batches, self.images)
        distance = (kept - kept.nanmedian(0).values).abs().nanmean((1, 2, 3))
        reference = kept[distance.argmin()]
        aligned = torch.cat([self._aligned(part, reference) for part in torch.split(kept, AT_ONCE)])
        median = aligned.nanmedian(0).values
        # The area that some image covers need not be a rectangle, as that of the reference is.
        self.template = torch.where(median.isnan(), split_padding(reference[None])[0][0], median)

    def learned_bytes(self, size: tuple[int, int], images: int) -> int:
        return 4 * 3 * size[0] * size[1]

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        filled, visible = split_padding(images)
        template = self.template.expand_as(filled)
        motion = register(filled.mean(1), template.mean(1), visible[:, 0], self.largest_angle)
        template = warp(template, motion)
        compared = coverage(motion, images.shape[2], images.shape[3]) & visible[:, 0]
        if self.match_brightness:
            filled = matched_brightness(filled, template, compared)
        grid = smallest_difference(filled, template, self.tolerance) * compared
        anomaly_map = upsample(mask_grid(grid, visible), (images.shape[2], images.shape[3]), self.sigma)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def _aligned(self, images: Tensor, reference: Tensor) -> Tensor:
        """Images aligned with the reference (3, H, W), NaN where the moved image has no pixels."""
        filled, visible = split_padding(images)
        target, target_visible = (
            part.expand(len(images), -1, -1, -1) for part in split_padding(reference[None])
        )
        motion = register(target.mean(1), filled.mean(1), target_visible[:, 0], self.largest_angle)
        inside = (warp(visible.to(filled), motion) > 0.5) & coverage(motion, *images.shape[2:])[:, None]
        aligned = warp(filled, motion)
        return torch.where(inside, aligned, torch.full_like(aligned, torch.nan))


def smallest_difference(images: Tensor, template: Tensor, radius: int) -> Tensor:
    """Smallest mean over channels of |image(p) - template(p + d)| for d up to `radius` along each axis: (N, H, W)."""
    height, width = images.shape[2:]
    padded = functional.pad(template, (radius,) * 4, mode="replicate")
    smallest = torch.full_like(images[:, 0], torch.inf)
    for y in range(2 * radius + 1):
        for x in range(2 * radius + 1):
            difference = (images - padded[:, :, y : y + height, x : x + width]).abs().mean(1)
            smallest = torch.minimum(smallest, difference)
    return smallest


def matched_brightness(images: Tensor, template: Tensor, compared: Tensor) -> Tensor:
    """Images with one gain and one offset each, fitted to the template by robust least squares.

    The weight of a pixel falls with its difference (Cauchy's function), so that defects count little; `compared`
    (N, H, W) are the pixels that are used. The gain is limited to 0.5 to 2, so that the match removes no defect.
    """
    matched = images
    for _ in range(3):
        weight = compared[:, None] / (1 + ((matched - template) / OUTLIER_SCALE) ** 2)
        total = weight.sum((1, 2, 3), keepdim=True).clamp_min(1)
        mean = (weight * images).sum((1, 2, 3), keepdim=True) / total
        target = (weight * template).sum((1, 2, 3), keepdim=True) / total
        covariance = (weight * (images - mean) * (template - target)).sum((1, 2, 3), keepdim=True)
        variance = (weight * (images - mean) ** 2).sum((1, 2, 3), keepdim=True)
        gain = ((covariance + GAIN_RIDGE) / (variance + GAIN_RIDGE)).clamp(0.5, 2)
        matched = (images - mean) * gain + target
    return matched
