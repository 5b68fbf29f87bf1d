"""Texture: Mahalanobis distance of local filter statistics to one Gaussian for all positions.

A filter-bank texture model in the tradition of Gabor and Laws energies (Jain and Farrokhnia, "Unsupervised
texture segmentation using Gabor filters", Pattern Recognition 1991).
Differs from the source: it detects anomalies instead of clustering textures; energies are logarithms.
"""

import torch
from torch import Tensor

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.classical.filters import FilterBank
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.errors import MethodError
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method
from blemish.types import Prediction

STRIDE = 4
"""Distance between neighbouring positions of the statistics, in pixels."""
AT_ONCE = 4
"""Number of images that are filtered together in training; more would not fit into the processor's cache."""
RIDGE = 1e-3
"""Share of each feature's variance that is added to it."""


class Texture(Method):
    """Mahalanobis distance of local filter statistics to their one Gaussian over all positions.

    It needs no alignment, which suits surfaces; on objects it scores every rare part as anomalous. The image score is
    the maximum of the anomaly map.
    """

    orientations: int = argument(6, "Number of directions of the Gabor filters.", ge=1, le=180)
    levels: int = argument(3, "Number of pyramid levels, each half as large as the one before.", ge=1, le=12)
    sigma: float = arguments.sigma()

    def build(self) -> None:
        self.filters = FilterBank(self.orientations, self.levels, STRIDE)
        self.mean: Tensor  # (D,)
        self.whitening: Tensor  # (D, D): inverse of the covariance's Cholesky factor
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("whitening", torch.empty(0))

    def collect(self, batches: Batches) -> None:
        dim = self.filters.channels
        count = 0
        total = torch.zeros(dim, dtype=torch.float64)
        outer = torch.zeros(dim, dim, dtype=torch.float64)
        for images in (part for batch in batches for part in torch.split(batch, AT_ONCE)):
            statistics, visible = self._statistics(images)
            inside = statistics[visible_grid(visible, (statistics.shape[1], statistics.shape[2]))].double()
            count += len(inside)
            total = total.to(inside) + inside.sum(0)
            outer = outer.to(inside) + inside.T @ inside
        if count < 2:
            raise MethodError("There is no image to learn from. Give at least one normal image.")
        mean = total / count
        covariance = outer / count - mean[:, None] * mean
        variance = covariance.diagonal().clamp_min(0)
        # The ridge of a constant feature (a colour, in grey images) comes from the mean variance of all features.
        ridge = RIDGE * torch.maximum(variance, 0.01 * variance.mean().clamp_min(1e-6))
        self.mean = mean.float()
        factor = torch.linalg.cholesky(covariance + ridge.diag())
        self.whitening = torch.linalg.solve_triangular(factor, torch.eye(dim).to(factor), upper=False).float()

    def cell_size(self, size: tuple[int, int]) -> tuple[float, float]:
        return STRIDE, STRIDE

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        statistics, visible = self._statistics(images)
        grid = ((statistics - self.mean) @ self.whitening.T).square().sum(-1).sqrt()
        anomaly_map = upsample(mask_grid(grid, visible), (images.shape[2], images.shape[3]), self.sigma)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def _statistics(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Filter statistics (N, h, w, D) and visible pixels (N, 1, H, W)."""
        filled, visible = split_padding(images)
        return self.filters(filled).permute(0, 2, 3, 1), visible
