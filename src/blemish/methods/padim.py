"""PaDiM: how unlikely each image position is under a Gaussian of the normal features there.

Defard et al., "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization",
ICPR 2021.
Differs from the paper: statistics are streamed, so no feature is kept; factors are triangular and packed (half
the memory of inverse covariances); the ridge is relative to the features' own variance, so that a backbone can be
swapped; maps are enlarged bilinearly; no centre crop unless the preset asks for it.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.patches import stack_layers
from blemish.blocks.position_gaussian import PositionGaussian
from blemish.errors import MethodError
from blemish.features.backbone import Backbone
from blemish.methods.base import Batches, Method, Preset
from blemish.types import Prediction

SIGMA = 4.0
"""Blur of the anomaly map in pixels of the network's input (authors' setting)."""


class PaDiM(Method):
    """A Gaussian per position of the feature grid; the Mahalanobis distance to it is the anomaly map.

    Positions must mean the same in every image: the parts have to be aligned.

    Args:
        backbone: Name of the frozen network.
        layers: Which of its feature maps are stacked, finest first; coarser ones are repeated, not interpolated.
        dimensions: How many of the stacked channels are used, drawn at random; all if there are no more.
        ridge: Added to each covariance's diagonal, as a share of the features' mean variance.
    """

    presets: ClassVar = {
        "paper": Preset(
            {"backbone": "wide_resnet50_2", "layers": (1, 2, 3), "dimensions": 550},
            {"size": (256, 256), "crop": (224, 224)},
        ),
    }

    def __init__(
        self,
        *,
        backbone: str = "compact",
        layers: Sequence[int] = (2, 3),
        dimensions: int = 100,
        ridge: float = 0.01,
    ) -> None:
        super().__init__()
        if dimensions < 1:
            raise MethodError(
                f"dimensions must be at least 1, got {dimensions}; the paper uses 100 for ResNet-18."
            )
        if ridge <= 0:
            raise MethodError(
                f"ridge must be positive, got {ridge}: without it few images give no invertible covariance."
            )
        self.backbone = backbone
        self.layers = layers
        self.dimensions = dimensions
        self.ridge = ridge

        self.features = Backbone(backbone, layers)
        self.channels: Tensor  # (d,) int64: the channels drawn
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
        self.gaussians.finish(self.ridge)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        grid = mask_grid(self.gaussians.distance(self.embed(images)), visible)
        anomaly_map = upsample(grid, (images.shape[2], images.shape[3]), SIGMA)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def embed(self, images: Tensor) -> Tensor:
        """The drawn channels on the finest layer's grid: (N, d, h, w)."""
        return stack_layers(self.features(images), mode="nearest")[:, self.channels]
