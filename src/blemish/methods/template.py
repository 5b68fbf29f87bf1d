"""Template: the difference from a golden template that is laid onto each image.

The golden-template comparison of machine-vision practice, on a template that is the median of aligned normal
images. Differs from the practice: the template moves onto the image, so the map needs no way back; brightness is
matched over the whole image, since a match within small surroundings also matches large defects away.
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
"""Training images registered together."""
OUTLYING = 0.045
"""Difference, in images of 0 to 1 (11 of 255 grey levels), that halves a pixel's weight."""
FLAT = 0.05
"""Sum of squares over an image of 0 to 1 that is added to both sides of the gain: without contrast it is 1."""


class Template(Method):
    """Smallest difference between a pixel and the template within a few pixels of the same place.

    Where no rigid motion makes image and template clearly more alike, they are compared as they lie. The image
    score is the maximum of the anomaly map, in grey values on the 0 to 1 scale. At most `images` training images
    stay in memory (twice 50 MB at the defaults and 256 px).
    """

    tolerance: int = argument(1, "Distance that an edge may lie from the template's, in pixels.", ge=0)
    match_brightness: bool = argument(
        True, "Whether a gain and an offset match the image's brightness to the template's."
    )
    largest_angle: float = argument(
        10.0, "Largest rotation that the registration looks for, in degrees.", ge=0
    )
    images: int = argument(
        64, "Maximum number of training images that are used, evenly spaced over all.", ge=1
    )
    sigma: float = arguments.sigma()

    exports: bool = False
    exports_reason: ClassVar[str] = (
        "it registers each image to its template, which searches with Fourier transforms."
    )

    def build(self) -> None:
        self.template: Tensor  # (3, H, W)
        self.register_buffer("template", torch.empty(0))

    def collect(self, batches: Batches) -> None:
        kept = evenly_spaced(batches, self.images)
        distance = (kept - kept.nanmedian(0).values).abs().nanmean((1, 2, 3))
        reference = kept[distance.argmin()]
        aligned = torch.cat([self._aligned(part, reference) for part in torch.split(kept, AT_ONCE)])
        median = aligned.nanmedian(0, keepdim=True).values
        self.template = split_padding(median)[0][0]

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
        """Images laid onto the reference (3, H, W), NaN where they show nothing."""
        filled, visible = split_padding(images)
        target, seen = (part.expand(len(images), -1, -1, -1) for part in split_padding(reference[None]))
        motion = register(target.mean(1), filled.mean(1), seen[:, 0], self.largest_angle)
        shown = (warp(visible.to(filled), motion) > 0.5) & coverage(motion, *images.shape[2:])[:, None]
        laid = warp(filled, motion)
        return torch.where(shown, laid, torch.full_like(laid, torch.nan))


def smallest_difference(images: Tensor, template: Tensor, radius: int) -> Tensor:
    """Smallest mean over channels of |image(p) - template(p + d)| for d up to `radius` along each axis: (N, H, W)."""
    height, width = images.shape[2:]
    wide = functional.pad(template, (radius,) * 4, mode="replicate")
    smallest = torch.full_like(images[:, 0], torch.inf)
    for y in range(2 * radius + 1):
        for x in range(2 * radius + 1):
            difference = (images - wide[:, :, y : y + height, x : x + width]).abs().mean(1)
            smallest = torch.minimum(smallest, difference)
    return smallest


def matched_brightness(images: Tensor, template: Tensor, compared: Tensor) -> Tensor:
    """Images times one gain plus one offset each, by least squares that give way where a defect differs.

    Weights fall with the difference (Cauchy's function); `compared` (N, H, W) are the pixels that count. The gain
    stays within half and double, as no defect may be matched away.
    """
    matched = images
    for _ in range(3):
        weight = compared[:, None] / (1 + ((matched - template) / OUTLYING) ** 2)
        total = weight.sum((1, 2, 3), keepdim=True).clamp_min(1)
        mean = (weight * images).sum((1, 2, 3), keepdim=True) / total
        target = (weight * template).sum((1, 2, 3), keepdim=True) / total
        covariance = (weight * (images - mean) * (template - target)).sum((1, 2, 3), keepdim=True)
        variance = (weight * (images - mean) ** 2).sum((1, 2, 3), keepdim=True)
        gain = ((covariance + FLAT) / (variance + FLAT)).clamp(0.5, 2)
        matched = (images - mean) * gain + target
    return matched
