"""PCA: residual of the reconstruction from eigen-images of normal images.

Turk and Pentland, "Eigenfaces for recognition", Journal of Cognitive Neuroscience 1991: the closed form of a
linear autoencoder.
Differs from the paper: the residual of each pixel is divided by its root mean square, which is measured on images left
out of the eigen-images, because the residuals of images that were used are smaller than those of new ones.
"""

import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.classical.filters import ROUNDING
from blemish.blocks.padding import mask_grid, split_padding
from blemish.blocks.sampling import evenly_spaced
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method
from blemish.types import Prediction


class PCA(Method):
    """Reconstruction from eigen-images; the anomaly map is the standardised residual.

    Images are resized to a small size; at most `images` training images stay in memory (30 MB at the defaults). The
    image score is the maximum of the anomaly map.
    """

    components: int = argument(32, "Number of eigen-images, limited by the number of images.", ge=1, le=4096)
    size: int = argument(64, "Height and width to which images are resized, in pixels.", ge=1, le=1024)
    images: int = arguments.images(512)
    floor: float = argument(0.5, "Smallest usual residual of a pixel, relative to the mean.", gt=0, le=1000)
    sigma: float = arguments.sigma()

    def build(self) -> None:
        self.mean: Tensor  # (D,), D = 3·size²
        self.basis: Tensor  # (K, D): eigen-images, largest variance first
        self.spread: Tensor  # (D,): root mean square residuals, at least `floor` times their mean
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("basis", torch.empty(0))
        self.register_buffer("spread", torch.empty(0))

    def collect(self, batches: Batches) -> None:
        rows = evenly_spaced((self._resized(images)[0] for images in batches), self.images)
        self.mean, self.basis = eigen_images(rows, self.components)
        halves = (rows[::2], rows[1::2]) if len(rows) > 1 else (rows, rows)
        residuals = [
            _residual(other, *eigen_images(half, self.components)) for half, other in (halves, halves[::-1])
        ]
        spread = torch.cat(residuals).square().mean(0).sqrt()  # (D,)
        self.spread = spread.clamp_min(self.floor * spread.mean()).clamp_min(ROUNDING)

    def cell_size(self, size: tuple[int, int]) -> tuple[float, float]:
        return size[0] / self.size, size[1] / self.size

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        rows, visible = self._resized(images)
        standardised = (_residual(rows, self.mean, self.basis) / self.spread).abs()
        grid = standardised.view(-1, 3, self.size, self.size).mean(1)
        anomaly_map = upsample(mask_grid(grid, visible), (images.shape[2], images.shape[3]), self.sigma)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def _resized(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Resized images as rows (N, 3·size²), and visible pixels (N, 1, H, W)."""
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
    """Differences (N, D) between images and their reconstructions from the mean and the basis (K, D)."""
    centred = rows - mean
    return centred - centred @ basis.T @ basis
