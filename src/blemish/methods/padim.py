"""PaDiM: Mahalanobis distance to a Gaussian of the normal features at each position.

Defard et al., "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization",
ICPR 2021.
Differs from the paper: statistics are streamed, so no feature is kept; covariances are stored as packed triangular
factors (half the memory of their inverses); the ridge is relative to the variance of the features, so that a backbone
can be swapped (not with the preset `paper`); maps are enlarged bilinearly; no centre crop unless a preset asks for it.
"""

from typing import ClassVar

import torch
from torch import Tensor

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.patches import stack_layers
from blemish.blocks.position_gaussian import PositionGaussian
from blemish.features.backbone import Backbone
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method, Preset
from blemish.types import Prediction

SIGMA = 4.0
"""Blur of the anomaly map in pixels of the network's input (authors' setting)."""


class PaDiM(Method):
    """A Gaussian per position of the feature grid; the Mahalanobis distance to it is the anomaly map.

    The parts must be aligned, so that a position shows the same place of the part in every image.
    """

    backbone: str = arguments.backbone()
    layers: tuple[int, ...] = arguments.layers()
    dimensions: int = argument(
        100, "Number of stacked channels that are used, drawn at random.", ge=1, le=8192
    )
    ridge: float = argument(
        0.01, "Added to covariance diagonals, relative to the mean variance.", gt=0, le=1000
    )
    absolute_ridge: bool = argument(False, "Whether the ridge is added as it is (paper).")

    presets: ClassVar = {
        "paper": Preset(
            {
                "backbone": "wide_resnet50_2",
                "layers": (1, 2, 3),
                "dimensions": 550,
                "absolute_ridge": True,
            },
            {"size": (256, 256), "crop": (224, 224)},
        ),
    }

    def build(self) -> None:
        self.features = Backbone(self.backbone, self.layers)
        self.channels: Tensor  # (d,) int64: indices of the drawn channels
        self.register_buffer("channels", torch.empty(0, dtype=torch.int64))
        self.gaussians = PositionGaussian()

    def collect(self, batches: Batches) -> None:
        total = sum(self.features.channels)
        drawn = torch.randperm(total)[: self.dimensions].sort().values
        self.channels = drawn.to(self.channels.device)
        for images in batches:
            images, visible = split_padding(images)
            features = self.embed(images)
            self.gaussians.update(features, visible_grid(visible, (features.shape[2], features.shape[3])))
        self.gaussians.finish(self.ridge, absolute=self.absolute_ridge)

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

    def embed(self, images: Tensor) -> Tensor:
        """The drawn channels on the finest layer's grid: (N, d, h, w)."""
        return stack_layers(self.features(images), mode="nearest")[:, self.channels]
