"""PatchCore: distance of image patches to a coreset of normal patches.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022.
Differs from the paper: no centre crop unless the preset asks for it; the default backbone is the embedded one; where
exact greedy would be slow, the coreset is an epsilon-net with the same guarantee (not with the preset `paper`).
The preset `amazon` follows the authors' code instead: squared distances, the plain maximum as image score, embeddings
averaged down to 1024 values, and their variant of greedy.
"""

from typing import ClassVar

from torch import Tensor

from blemish.blocks.patches import mean_map
from blemish.methods.arguments import argument
from blemish.methods.base import Preset
from blemish.methods.memory_bank import MemoryBankMethod

_PAPER_IMAGES = {"size": (256, 256), "crop": (224, 224)}


class PatchCore(MemoryBankMethod):
    """A memory bank of normal patches; the distance to the nearest one is the anomaly map."""

    squared: bool = argument(False, "Whether distances are squared.")
    mean_mapped: int | None = argument(None, "Width that embeddings are averaged to.", ge=1, le=8192)

    presets: ClassVar = {
        "paper": Preset(
            {"backbone": "wide_resnet50_2", "coreset_ratio": 0.1, "coreset": "greedy"}, _PAPER_IMAGES
        ),
        "amazon": Preset(
            {
                "backbone": "wide_resnet50_2",
                "coreset_ratio": 0.1,
                "coreset": "approximate",
                "neighbours": 1,
                "squared": True,
                "mean_mapped": 1024,
            },
            _PAPER_IMAGES,
        ),
    }

    def from_distances(self, distances: Tensor) -> Tensor:
        return distances.square() if self.squared else distances

    @property
    def width(self) -> int:
        return self.mean_mapped or super().width

    def embed(self, images: Tensor) -> Tensor:
        if self.mean_mapped is None:
            return super().embed(images)
        embedded = mean_map(self.features(images), self.patch_size, self.mean_mapped)
        return embedded.permute(0, 2, 3, 1)
