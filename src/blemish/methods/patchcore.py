"""PatchCore: the distance of image patches to a coreset of normal patches.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022.
Differs from the paper: no centre crop unless the preset asks for it; the default backbone is the embedded one.
The preset `amazon` follows the authors' code instead: squared distances, the plain maximum as image score,
embeddings averaged down to 1024 numbers.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from blemish.blocks.coreset import greedy_coreset
from blemish.blocks.maps import upsample
from blemish.blocks.neighbours import nearest, neighbour_lists
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.patches import local_mean, mean_map, stack_layers
from blemish.errors import MethodError
from blemish.features.backbone import Backbone
from blemish.methods.base import Method, Preset
from blemish.types import Prediction

SIGMA = 4.0
"""Blur of the anomaly map in pixels of the network's input (paper, section 4.4.1)."""
_PAPER_IMAGES = {"size": (256, 256), "crop": (224, 224)}


class PatchCore(Method):
    """A memory bank of normal patches; the distance to the nearest one is the anomaly map.

    Args:
        backbone: Name of the frozen network that embeds the patches.
        layers: Which of its feature maps are stacked, finest first.
        coreset_ratio: Share of the training patches kept in the bank, in (0, 1].
        neighbours: Bank neighbours b of the image score's re-weighting (paper, equation 7); 1 for none.
        patch_size: Side of the neighbourhood averaged around each cell, odd.
        squared: Whether distances are squared.
        mean_mapped: Numbers the embedding is averaged down to; None keeps the stacked layers.
    """

    presets: ClassVar = {
        "paper": Preset({"backbone": "wide_resnet50_2", "coreset_ratio": 0.1}, _PAPER_IMAGES),
        "amazon": Preset(
            {
                "backbone": "wide_resnet50_2",
                "coreset_ratio": 0.1,
                "neighbours": 1,
                "squared": True,
                "mean_mapped": 1024,
            },
            _PAPER_IMAGES,
        ),
    }

    def __init__(
        self,
        *,
        backbone: str = "compact",
        layers: Sequence[int] = (2, 3),
        coreset_ratio: float = 0.01,
        neighbours: int = 9,
        patch_size: int = 3,
        squared: bool = False,
        mean_mapped: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 < coreset_ratio <= 1:
            raise MethodError(
                f"coreset_ratio must be in (0, 1], got {coreset_ratio}; 0.01 keeps one patch in 100."
            )
        if neighbours < 1:
            raise MethodError(
                f"neighbours must be at least 1 (which means no re-weighting), got {neighbours}."
            )
        if not isinstance(patch_size, int) or patch_size < 1 or patch_size % 2 == 0:
            raise MethodError(f"patch_size must be odd and positive, got {patch_size}; the paper uses 3.")
        if mean_mapped is not None and not 1 <= mean_mapped <= 8192:
            raise MethodError(
                f"mean_mapped must be between 1 and 8192, got {mean_mapped}; the authors use 1024."
            )
        self.backbone = backbone
        self.layers = layers
        self.coreset_ratio = coreset_ratio
        self.neighbours = neighbours
        self.patch_size = patch_size
        self.squared = squared
        self.mean_mapped = mean_mapped

        self.features = Backbone(backbone, layers)
        self.memory_bank: Tensor  # (M, D)
        self.bank_norms: Tensor  # (M,)
        self.bank_neighbours: Tensor  # (M, b), each row's own index first
        self.register_buffer("memory_bank", torch.empty(0))
        self.register_buffer("bank_norms", torch.empty(0))
        self.register_buffer("bank_neighbours", torch.empty(0, dtype=torch.int64))

    def collect(self, batches: Iterable[Tensor]) -> None:
        found = []
        for images in batches:
            images, visible = split_padding(images)
            patches = self.embed(images)
            found.append(patches[visible_grid(visible, (patches.shape[1], patches.shape[2]))])
        patches = torch.cat(found)
        count = max(1, round(self.coreset_ratio * len(patches)))
        self.memory_bank = patches[greedy_coreset(patches, count, self.progress)]
        self.bank_norms = self.memory_bank.square().sum(1)
        self.bank_neighbours = neighbour_lists(self.memory_bank, self.bank_norms, min(self.neighbours, count))

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        patches = self.embed(images)  # (N, h, w, D)
        distances, indices = nearest(patches.flatten(0, 2), self.memory_bank, self.bank_norms)
        grid = mask_grid(distances.reshape(patches.shape[:3]), visible)
        score = self.image_score(grid, patches, indices.reshape(grid.shape))
        if self.squared:
            grid, score = grid.square(), score.square()
        return Prediction(score, upsample(grid, (images.shape[2], images.shape[3]), SIGMA))

    def embed(self, images: Tensor) -> Tensor:
        """Patch embeddings on the finest layer's grid: (N, h, w, D)."""
        maps = self.features(images)
        if self.mean_mapped is not None:
            embedded = mean_map(maps, self.patch_size, self.mean_mapped)
        else:
            embedded = stack_layers([local_mean(m, self.patch_size) for m in maps])
        return embedded.permute(0, 2, 3, 1)

    def image_score(self, grid: Tensor, patches: Tensor, indices: Tensor) -> Tensor:
        """The worst patch's distance, times 1 − softmax of it among its neighbour's neighbours (N,)."""
        distance, worst = grid.flatten(1).max(1)  # (N,)
        if self.bank_neighbours.shape[1] == 1:
            return distance
        rows = torch.arange(grid.shape[0], device=grid.device)
        patch = patches.flatten(1, 2)[rows, worst]  # (N, D)
        nearest_index = indices.flatten(1)[rows, worst]
        support = self.memory_bank[self.bank_neighbours[nearest_index]]  # (N, b, D)
        distances = (patch[:, None] - support).square().sum(2).sqrt()
        return distance * (1 - torch.softmax(distances, 1)[:, 0])
