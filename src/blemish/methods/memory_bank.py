"""Methods that score patches by the distance to a memory bank of normal patches.

The bank is a coreset of the training patches: the one of exact greedy k-centre as long as that is quick, of more
patches an epsilon-net that is grown in one pass with the same guarantee.
"""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.memory.bank import MemoryBank
from blemish.blocks.memory.coreset import GreedyCoreset
from blemish.blocks.memory.streaming_coreset import StreamingCoreset
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.patches import local_mean, stack_layers
from blemish.data.cache import RowFile, free_disk
from blemish.features.backbone import Backbone
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method
from blemish.types import Prediction

SIGMA = 4.0
"""Blur of the anomaly map in pixels of the network's input (PatchCore, section 4.4.1)."""
DEFECT_SHARE = 0.9
"""Where a defect is not marked, it is taken to be the cells that score at least this share of the highest score."""
KEPT_VALUES = 2**26
"""Maximum number of values of embedded new images that an update keeps, 256 MiB; of more, all are embedded twice."""
Coreset = Literal["auto", "greedy", "streaming"]
MOST_PATCHES, MOST_CHOICES = 2**20, 2**13
"""Greedy selects the coreset of up to so many patches, and up to so many of them: 512 MiB, well under a minute."""


class MemoryBankMethod(Method):
    """Fills a memory bank from embedded patches and scores by nearest neighbours."""

    backbone: str = arguments.backbone()
    layers: tuple[int, ...] = arguments.layers()
    patch_size: int = arguments.patch_size()
    coreset_ratio: float = argument(
        0.01, "Maximum share of the training patches that the bank keeps.", gt=0, le=1
    )
    bank_size: int | None = argument(
        None,
        "Maximum number of patches that the bank keeps, instead of a share; None: by coreset_ratio.",
        ge=1,
    )
    coreset: Coreset = argument(
        "auto",
        "Coreset selection: 'greedy' for exact greedy k-centre, in memory and time that grow with the patches; "
        "'streaming' for an epsilon-net in one pass and bounded memory; 'auto' for greedy up to a million patches and "
        "8192 to keep, else streaming.",
    )
    neighbours: int = argument(
        9,
        "Number of bank neighbours in the re-weighting of the image score (paper, equation 7); 1: none.",
        ge=1,
    )

    def build(self) -> None:
        self.features = Backbone(self.backbone, self.layers)
        self.memory_bank = MemoryBank(self.neighbours)
        self.seen: Tensor  # (2,): images and patches learned from
        self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))

    def collect(self, batches: Batches) -> None:
        selection: StreamingCoreset | GreedyCoreset | None = None
        for images in batches:
            patches, origins = self._counted(*self._embedded(images))
            if selection is None:
                selection = self._selection(len(batches) * len(patches), patches.shape[1])
            selection.add(patches, origins)
        if selection is not None:
            self.memory_bank.fill(*selection.finish())

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        patches, visible = self._embedded(images)
        distances, indices = self.memory_bank.nearest(patches.flatten(0, 2))
        return self._predicted(patches, distances, indices, visible)

    def update(self, batches: Batches) -> Prediction[Tensor]:
        """Add to the bank what it does not cover yet, and thin it to its budget again; see `Method.update`."""
        first = int(self.seen[0])
        fresh: list[tuple[Tensor, Tensor]] = []
        embedded: list[tuple[Tensor, Tensor]] = []
        for images in batches:
            patches, visible = self._embedded(images)
            fresh.append(self.memory_bank.uncovered(*self._counted(patches, visible)))
            if len(embedded) * patches[0].numel() < KEPT_VALUES:
                embedded += zip(patches.split(1), visible.split(1), strict=True)
        patches, origins = (torch.cat(parts) for parts in zip(*fresh, strict=True))
        budget = self.bank_size or max(1, round(self.coreset_ratio * int(self.seen[1])))
        self.memory_bank.extend(patches, origins, budget)
        everything: Iterable[tuple[Tensor, Tensor]] = embedded
        if len(embedded) < int(self.seen[0]) - first:
            everything = (self._embedded(image[None]) for images in batches for image in images)
        found = [self._without_itself(*image, number) for number, image in enumerate(everything, first)]
        return Prediction(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def forget(self, image: Tensor, where: Tensor) -> Tensor:
        """Take out the bank patch nearest to each cell of the defect; see `Method.forget`.

        Where the defect is not marked, it is taken to be where the image scores nearly as high as at its worst.
        """
        patches, visible = self._embedded(image)
        distances, indices = self.memory_bank.nearest(patches.flatten(0, 2))
        grid = mask_grid(distances.reshape(patches.shape[:3]), visible)
        marked = functional.adaptive_max_pool2d(where[None].to(grid.dtype), grid.shape[1:]) > 0
        if not marked.any():
            marked = grid >= DEFECT_SHARE * grid.max()
        gone = self.memory_bank.remove(indices.reshape(grid.shape)[marked])
        size = gone.new_tensor([1, *grid.shape[1:]])  # rows and columns
        return ((gone + gone.new_tensor([0, 0.5, 0.5])) / size)[:, [0, 2, 1]]

    def embed(self, images: Tensor) -> Tensor:
        """Patch embeddings on the finest layer's grid: (N, h, w, D)."""
        return stack_layers([local_mean(m, self.patch_size) for m in self.features(images)]).permute(
            0, 2, 3, 1
        )

    def from_distances(self, distances: Tensor) -> Tensor:
        """Scores of distances of any shape; the distances themselves unless overridden."""
        return distances

    def image_score(self, grid: Tensor, patches: Tensor, indices: Tensor) -> Tensor:
        """The worst patch's distance, times 1 − softmax of it among its neighbour's neighbours (N,)."""
        distance, worst = grid.flatten(1).max(1)  # (N,)
        if self.memory_bank.support.shape[1] == 1:
            return distance
        rows = torch.arange(grid.shape[0], device=grid.device)
        patch = patches.flatten(1, 2)[rows, worst]  # (N, D)
        nearest_index = indices.flatten(1)[rows, worst]
        support = self.memory_bank.patches[self.memory_bank.support[nearest_index]]  # (N, b, D)
        distances = (patch[:, None] - support).square().sum(2).sqrt()
        return distance * (1 - torch.softmax(distances, 1)[:, 0])

    def _selection(self, expected: int, width: int) -> StreamingCoreset | GreedyCoreset:
        budget = self.bank_size or self.coreset_ratio * expected
        is_quick = expected <= MOST_PATCHES and budget <= MOST_CHOICES and 4 * width * expected <= free_disk()
        settings: Any = {"ratio": self.coreset_ratio, "size": self.bank_size, "progress": self.progress}
        if self.coreset == "greedy" or (self.coreset == "auto" and is_quick):
            return GreedyCoreset(expected, RowFile(), **settings)
        return StreamingCoreset(expected, **settings)

    def _embedded(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (N, h, w, D) and which pixels are visible."""
        images, visible = split_padding(images)
        return self.embed(images), visible

    def _counted(self, patches: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """The visible ones of a batch's patches (n, D) and their origins (n, 3); counts what was seen."""
        inside = visible_grid(visible, (patches.shape[1], patches.shape[2]))
        origins = inside.nonzero()
        origins[:, 0] += self.seen[0]
        self.seen += torch.tensor([len(patches), len(origins)], device=self.seen.device)
        return patches[inside], origins

    def _predicted(
        self, patches: Tensor, distances: Tensor, indices: Tensor, visible: Tensor
    ) -> Prediction[Tensor]:
        """Scores and maps of patches (N, h, w, D) from their nearest neighbours (N·h·w,)."""
        grid = mask_grid(distances.reshape(patches.shape[:3]), visible)
        score = self.image_score(grid, patches, indices.reshape(grid.shape))
        score, grid = self.from_distances(score), self.from_distances(grid)
        return Prediction(score, upsample(grid, (visible.shape[2], visible.shape[3]), SIGMA))

    def _without_itself(self, patches: Tensor, visible: Tensor, number: int) -> Prediction[Tensor]:
        """The prediction for training image `number`, patches (1, h, w, D), by the bank patches from others."""
        return self._predicted(
            patches, *self.memory_bank.nearest_of_others(patches.flatten(0, 2), number), visible
        )
