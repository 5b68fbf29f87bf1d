"""PatchCore: distance of image patches to a coreset of normal patches.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022.
Differs from the paper: no centre crop unless the preset asks for it; the default backbone is the embedded one; where
exact greedy would be slow, the coreset is an epsilon-net with the same guarantee (not with the preset `paper`).
The preset `amazon` follows the authors' code instead: squared distances, the plain maximum as image score, embeddings
averaged down to 1024 values, and their variant of greedy.
"""

from typing import ClassVar

from torch import Tensor

from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Preset
from blemish.methods.memory_bank import MemoryBankMethod

_PAPER_IMAGES = {"size": (256, 256), "crop": (224, 224)}


class PatchCore(MemoryBankMethod):
    """A memory bank of normal patches; the distance to the nearest one is the anomaly map."""

    squared: bool = argument(False, "Whether distances are squared.")
    mean_mapped: int | None = arguments.mean_mapped()

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
