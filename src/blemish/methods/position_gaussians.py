"""What the methods share that fit a Gaussian to the features of each position."""

from abc import abstractmethod

import torch
from torch import Tensor

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.padding import mask_grid, split_padding
from blemish.blocks.position_gaussian import PositionGaussian
from blemish.features.backbone import Backbone
from blemish.methods.arguments import argument
from blemish.methods.base import Method
from blemish.types import Prediction

SIGMA = 4.0
"""Blur of the anomaly map in pixels of the network's input (setting of PaDiM's and of RegAD's authors)."""


class GaussianMethod(Method):
    """The anomaly map is the Mahalanobis distance to the Gaussian of each position; its maximum is the score.

    A subclass makes `features` and calls the `build` of this class, draws the channels and learns the Gaussians.
    """

    dimensions: int = argument(
        100, "Number of stacked channels that are used, drawn at random.", ge=1, le=8192
    )
    ridge: float = argument(
        0.01, "Added to covariance diagonals, relative to the mean variance.", gt=0, le=1000
    )

    def build(self) -> None:
        self.features: Backbone
        self.channels: Tensor  # (d,) int64: indices of the drawn channels
        self.register_buffer("channels", torch.empty(0, dtype=torch.int64))
        self.gaussians = PositionGaussian()

    def draw_channels(self) -> None:
        """Draw the channels that are used, with torch's global generator."""
        drawn = torch.randperm(sum(self.features.channels))[: self.dimensions].sort().values
        self.channels = drawn.to(self.channels.device)

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """The drawn channels on the finest map's grid: (N, d, h, w)."""

    def cell_size(self, size: tuple[int, int]) -> tuple[float, float]:
        return self.features.strides[0], self.features.strides[0]

    def learned_bytes(self, size: tuple[int, int], images: int) -> int:
        dimensions = min(self.dimensions, sum(self.features.channels))
        return 4 * self.features.cells(size)[0] * PositionGaussian.numbers(dimensions)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        grid = mask_grid(self.gaussians.distance(self.embed(images)), visible)
        anomaly_map = upsample(grid, (images.shape[2], images.shape[3]), SIGMA)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)
