"""PCA: what of an image the eigen-images of normal ones cannot rebuild.

Turk and Pentland, "Eigenfaces for recognition", Journal of Cognitive Neuroscience 1991: the closed form of a
linear autoencoder. Differs from the paper: the residual of each pixel is divided by its usual size there,
measured on images that were left out of the eigen-images, since the residuals of those that were used shrink.
"""

import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.classical.filters import ROUNDING
from blemish.blocks.padding import mask_grid, split_padding
from blemish.blocks.sampling import evenly_spaced
from blemish.errors import MethodError
from blemish.methods.base import Batches, Method
from blemish.types import Prediction


class PCA(Method):
    """Reconstruction from eigen-images; the standardised residual is the anomaly map.

    Works on shrunken images, of which at most `images` stay in memory (30 MB at the defaults). The image score
    is the maximum of the anomaly map.

    Args:
        components: Eigen-images kept; fewer if there are fewer images.
        size: Height and width, in pixels, to which images are shrunk.
        images: Training images used at most, evenly spaced over all.
        floor: Smallest usual residual of a pixel, as a share of the average one.
        sigma: Gaussian blur of the anomaly map, in pixels.
    """

    def __init__(
        self,
        *,
        components: int = 32,
        size: int = 64,
        images: int = 512,
        floor: float = 0.5,
        sigma: float = 4.0,
    ) -> None:
        super().__init__()
        if components < 1 or size < 1 or images < 1:
            raise MethodError(
                f"components, size and images must be at least 1, got {components}, {size} and {images}. "
                "Use 32, 64 and 512."
            )
        if floor <= 0:
            raise MethodError(f"floor must be positive, got {floor}. Use 0.5.")
        if sigma < 0:
            raise MethodError(f"sigma must not be negative, got {sigma}. Use 0 for no blur.")
        self.components = components
        self.size = size
        self.images = images
        self.floor = floor
        self.sigma = sigma

        self.mean: Tensor  # (D,), D = 3·size²
        self.basis: Tensor  # (K, D): eigen-images, largest variance first
        self.spread: Tensor  # (D,): usual residual
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("basis", torch.empty(0))
        self.register_buffer("spread", torch.empty(0))

    def collect(self, batches: Batches) -> None:
        rows = evenly_spaced((self._shrink(images)[0] for images in batches), self.images)
        self.mean, self.basis = eigen_images(rows, self.components)
        halves = (rows[::2], rows[1::2]) if len(rows) > 1 else (rows, rows)
        left_out = [
            _residual(other, *eigen_images(half, self.components)) for half, other in (halves, halves[::-1])
        ]
        usual = torch.cat(left_out).square().mean(0).sqrt()  # (D,)
        self.spread = usual.clamp_min(self.floor * usual.mean()).clamp_min(ROUNDING)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        rows, visible = self._shrink(images)
        standardised = (_residual(rows, self.mean, self.basis) / self.spread).abs()
        grid = standardised.view(-1, 3, self.size, self.size).mean(1)
        anomaly_map = upsample(mask_grid(grid, visible), (images.shape[2], images.shape[3]), self.sigma)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def _shrink(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Shrunken images as rows (N, 3·size²), and visible pixels (N, 1, H, W)."""
        filled, visible = split_padding(images)
        return functional.adaptive_avg_pool2d(filled, self.size).flatten(1), visible


def eigen_images(rows: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """Mean (D,) and the first principal directions (K, D) of images (N, D), from their N × N Gram matrix."""
    mean = rows.mean(0)
    centred = rows - mean
    values, vectors = torch.linalg.eigh((centred @ centred.T).double())  # ascending
    count = min(components, max(1, len(rows) - 1))
    scale = values[-count:].clamp_min(1e-9 * values[-1:].clamp_min(1e-9)).rsqrt()
    return mean, ((vectors[:, -count:] * scale).T.to(rows) @ centred).flip(0)


def _residual(rows: Tensor, mean: Tensor, basis: Tensor) -> Tensor:
    centred = rows - mean
    return centred - centred @ basis.T @ basis
