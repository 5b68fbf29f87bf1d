"""PaDiM: Mahalanobis distance to a Gaussian of the normal features at each position.

Defard et al., "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization",
ICPR 2021.
Differs from the paper: statistics are streamed, so no feature is kept; covariances are stored as packed triangular
factors (half the memory of their inverses); the ridge is relative to the variance of the features, so that a backbone
can be swapped (not with the preset `paper`); maps are enlarged bilinearly; no centre crop unless a preset asks for it.
"""

from typing import ClassVar

from torch import Tensor

from blemish.blocks.padding import split_padding, visible_grid
from blemish.blocks.patches import stack_layers
from blemish.features.backbone import Backbone
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Preset
from blemish.methods.position_gaussians import GaussianMethod


class PaDiM(GaussianMethod):
    """A Gaussian per position of the feature grid; the Mahalanobis distance to it is the anomaly map.

    The parts must be aligned, so that a position shows the same place of the part in every image.
    """

    backbone: str = arguments.backbone()
    layers: tuple[int, ...] = arguments.layers()
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
        super().build()
        self.features = Backbone(self.backbone, self.layers)

    def collect(self, batches: Batches) -> None:
        self.draw_channels()
        for images in batches:
            images, visible = split_padding(images)
            features = self.embed(images)
            self.gaussians.update(features, visible_grid(visible, (features.shape[2], features.shape[3])))
        self.gaussians.finish(self.ridge, absolute=self.absolute_ridge)

    def embed(self, images: Tensor) -> Tensor:
        return stack_layers(self.features(images), mode="nearest")[:, self.channels]
