"""Variation: robust z-score of each pixel and its gradient against the normal images.

The variation model of machine-vision practice (Steger, Ulrich and Wiedemann, "Machine Vision Algorithms and
Applications", 2018). Differs from the source: median and median absolute deviation instead of mean and standard
deviation; the gradient is compared as well as the image.
"""

import torch
from torch import Tensor

from blemish.blocks.anomaly_map import gaussian_blur, upsample
from blemish.blocks.classical.filters import ROUNDING, gradient_magnitude
from blemish.blocks.padding import mask_grid, split_padding
from blemish.blocks.sampling import evenly_spaced
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method
from blemish.types import Prediction

MAD_TO_SIGMA = 1.4826
"""Ratio of the standard deviation of a normal distribution to its median absolute deviation."""
UNSEEN_SPREAD = 1e6
"""Spread of a pixel that was padding in all training images, so large that its score is about 0."""
ROWS = 32
"""Number of image rows whose statistics are computed at once, which bounds the memory."""


class Variation(Method):
    """Robust z-scores of pixels and of gradients against all normal images at the same position.

    It needs images of an object in a fixed position. The map is the mean over colours and gradients of
    max(0, |x - median| - tolerance) / spread; the image score is its maximum. At most `images` training images
    stay in memory, in half precision (100 MB at the defaults and 256 px).
    """

    tolerance: float = argument(0.0, "Deviation that is ignored, in grey values from 0 to 1.", ge=0, le=1)
    floor: float = argument(0.5, "Smallest spread of a pixel, relative to the mean spread.", ge=0, le=1000)
    smoothing: float = argument(
        1.0, "Standard deviation of the image's blur, in pixels (0: none).", ge=0, le=100
    )
    images: int = arguments.images(128)
    sigma: float = arguments.sigma()

    def build(self) -> None:
        self.center: Tensor  # (6, H, W): medians of colours and gradient magnitudes
        self.spread: Tensor  # (6, H, W): their robust standard deviations, at least `floor` times the mean
        self.register_buffer("center", torch.empty(0))
        self.register_buffer("spread", torch.empty(0))

    def collect(self, batches: Batches) -> None:
        kept = evenly_spaced((self._compared(images).half() for images in batches), self.images)
        parts = [robust_statistics(part.float()) for part in torch.split(kept, ROWS, dim=2)]
        center, spread = (torch.cat(halves, dim=1) for halves in zip(*parts, strict=True))
        average = spread.nanmean((1, 2), keepdim=True)
        self.center = center.nan_to_num(0)
        # Pixels without any training image have no normal range: nothing there is anomalous.
        self.spread = (
            torch.maximum(spread, self.floor * average).clamp_min(ROUNDING).nan_to_num(UNSEEN_SPREAD)
        )

    def learned_bytes(self, size: tuple[int, int], images: int) -> int:
        return 4 * 2 * 6 * size[0] * size[1]

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        compared = self._compared(images)
        excess = ((compared - self.center).abs() - self.tolerance).clamp_min(0) / self.spread
        grid = mask_grid(excess.mean(1).nan_to_num(0), ~torch.isnan(images[:, :1]))
        anomaly_map = upsample(grid, (images.shape[2], images.shape[3]), self.sigma)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def _compared(self, images: Tensor) -> Tensor:
        """Smoothed colours and their gradient magnitudes (N, 6, H, W), NaN outside the image."""
        filled, visible = split_padding(images)
        smooth = gaussian_blur(filled, self.smoothing)
        compared = torch.cat([smooth, gradient_magnitude(smooth)], dim=1)
        return torch.where(visible, compared, torch.full_like(compared, torch.nan))


def robust_statistics(values: Tensor) -> tuple[Tensor, Tensor]:
    """Median and standard deviation, by the median absolute deviation, over the first axis; NaN are left out."""
    center = values.nanmedian(0).values
    return center, MAD_TO_SIGMA * (values - center).abs().nanmedian(0).values
