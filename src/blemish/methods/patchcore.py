"""PatchCore: the distance of image patches to a coreset of normal patches.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022.
Differs from the paper: no centre crop unless the preset asks for it; the default backbone is the embedded one.
The coreset is the paper's as long as that is quick; of more patches it is grown in one pass as a net of greedy
k-centre's guarantee.
The preset `amazon` follows the authors' code instead: squared distances, the plain maximum as image score,
embeddings averaged down to 1024 numbers.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.memory.bank import MemoryBank
from blemish.blocks.memory.coreset import GreedyCoreset
from blemish.blocks.memory.streaming_coreset import StreamingCoreset
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.patches import local_mean, mean_map, stack_layers
from blemish.data.cache import RowFile, free_disk
from blemish.errors import MethodError
from blemish.features.backbone import Backbone
from blemish.methods.base import Batches, Method, Preset
from blemish.types import Prediction

SIGMA = 4.0
"""Blur of the anomaly map in pixels of the network's input (paper, section 4.4.1)."""
NEARLY = 0.9
"""Cells that score this share of the worst one are taken for the defect, where it is not said where that is."""
KEPT_NUMBERS = 2**26
"""Of embedded new images that an update keeps, 256 MiB; where they are more, it embeds all of them twice."""
MOST_PATCHES, MOST_CHOICES = 2**20, 2**13
"""Up to so many patches, and so many to keep, greedy chooses the coreset: 512 MiB of memory, well under a minute."""
Coreset = Literal["auto", "greedy", "streaming"]
_PAPER_IMAGES = {"size": (256, 256), "crop": (224, 224)}


class PatchCore(Method):
    """A memory bank of normal patches; the distance to the nearest one is the anomaly map.

    Args:
        backbone: Name of the frozen network that embeds the patches.
        layers: Which of its feature maps are stacked, finest first.
        coreset_ratio: Largest share of the training patches kept in the bank, in (0, 1].
        bank_size: Largest number of patches kept, in place of a share; None to go by `coreset_ratio`.
        coreset: "greedy" is exact greedy k-centre, in memory and time that grow with the patches; "streaming" is grown
            from their stream in bounded memory; "auto" takes the first up to a million patches and 8192 to keep.
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
        bank_size: int | None = None,
        coreset: Coreset = "auto",
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
        if bank_size is not None and bank_size < 1:
            raise MethodError(f"bank_size must be at least 1 patch, got {bank_size}.")
        if coreset not in get_args(Coreset):
            raise MethodError(f"coreset must be 'auto', 'greedy' or 'streaming', got {coreset!r}.")
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
        self.bank_size = bank_size
        self.coreset = coreset
        self.neighbours = neighbours
        self.patch_size = patch_size
        self.squared = squared
        self.mean_mapped = mean_mapped

        self.features = Backbone(backbone, layers)
        self.memory_bank = MemoryBank(neighbours)
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
            if len(embedded) * patches[0].numel() < KEPT_NUMBERS:
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
            marked = grid >= NEARLY * grid.max()
        gone = self.memory_bank.remove(indices.reshape(grid.shape)[marked])
        size = gone.new_tensor([1, *grid.shape[1:]])  # rows and columns
        return ((gone + gone.new_tensor([0, 0.5, 0.5])) / size)[:, [0, 2, 1]]

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
        if self.squared:
            grid, score = grid.square(), score.square()
        return Prediction(score, upsample(grid, (visible.shape[2], visible.shape[3]), SIGMA))

    def _without_itself(self, patches: Tensor, visible: Tensor, number: int) -> Prediction[Tensor]:
        """The prediction for training image `number`, patches (1, h, w, D), by the bank patches from others."""
        return self._predicted(
            patches, *self.memory_bank.nearest_of_others(patches.flatten(0, 2), number), visible
        )
