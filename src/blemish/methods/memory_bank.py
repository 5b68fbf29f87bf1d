"""Methods that score patches by distances to a memory bank of normal patches.

The bank is a coreset of the training patches. Exact greedy k-centre selects it where that is quick; for more patches
it is an epsilon-net, which is built in one pass and gives the same guarantee.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.memory.bank import NO_SUBSTITUTES, MemoryBank
from blemish.blocks.memory.coreset import GreedyCoreset
from blemish.blocks.memory.streaming_coreset import StreamingCoreset
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.patches import local_mean, mean_map, stack_layers
from blemish.data.cache import RowFile, free_disk
from blemish.features.backbone import Backbone
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method
from blemish.types import Prediction

SIGMA = 4.0
"""Blur of the anomaly map in pixels of the network's input (PatchCore, section 4.4.1)."""
DEFECT_SHARE = 0.9
"""A defect that is not marked is taken to be the cells whose score is at least this share of the highest score."""
KEPT_VALUES = 2**26
"""Maximum number of patch values that an update keeps (256 MiB); with more, it embeds the new images twice."""
Coreset = Literal["auto", "greedy", "approximate", "streaming"]
Embedded = tuple[Tensor, Tensor]
"""Patches (N, h, w, D), of any value where the image is padded, and visible pixels (N, 1, H, W)."""
MAX_GREEDY_PATCHES, MAX_GREEDY_CHOICES = 2**20, 2**13
"""Maximum numbers of patches, and of patches to keep, with which "auto" uses greedy: 512 MiB, well under a minute."""


@dataclass(frozen=True, slots=True)
class StoredPatches:
    """The visible patches of all training images, which a greedy coreset has stored."""

    rows: RowFile
    grid: tuple[int, int]
    visible: list[Tensor]
    """Visible pixels (N, 1, H, W) of each batch of images."""

    def __iter__(self) -> Iterator[Embedded]:
        """The images one by one."""
        end = 0
        for visible in (image for images in self.visible for image in images.split(1)):
            inside = visible_grid(visible, self.grid)
            first, end = end, end + int(inside.sum())
            patches = torch.zeros(*inside.shape, self.rows.width, device=visible.device)
            patches[inside] = torch.from_numpy(self.rows.read_range(first, end)).to(patches)
            yield patches, visible


class CoresetMethod(Method):
    """Keeps a coreset of the training patches in a memory bank."""

    backbone: str = arguments.backbone()
    layers: tuple[int, ...] = arguments.layers()
    patch_size: int = arguments.patch_size()
    coreset_ratio: float = argument(0.01, "Maximum share of the training patches in the bank.", gt=0, le=1)
    bank_size: int | None = argument(
        None, "Maximum number of patches, instead of a share.", ge=1, le=10_000_000
    )
    coreset: Coreset = argument(
        "auto",
        "Coreset selection: exact greedy k-centre, that of the authors' code, or an epsilon-net in one pass.",
    )
    neighbours: int = 1
    """Number of nearest bank patches that are stored for each bank patch, itself included."""
    mean_mapped: int | None = None
    """Width that embeddings are averaged to, as in the code of PatchCore's authors; None: they are stacked."""

    def build(self) -> None:
        self.features = Backbone(self.backbone, self.layers)
        self.memory_bank = MemoryBank(self.neighbours)
        self.seen: Tensor  # (2,): numbers of images and of patches learned from
        self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))

    def collect(self, batches: Batches) -> None:
        selection: StreamingCoreset | GreedyCoreset | None = None
        rows, masks = RowFile(), []
        for images in batches:
            embedded, visible = self._embedded(images)
            patches, origins = self._counted(embedded, visible)
            if selection is None:
                selection = self._selection(len(batches) * len(patches), patches.shape[1], rows)
            selection.add(*self.trusted(patches, origins))
            masks.append(visible)
        if selection is not None:
            self.memory_bank.fill(*selection.finish())
            has_all = isinstance(selection, GreedyCoreset) and selection.seen == int(self.seen[1])
            if has_all and self.leaves_out:
                self.kept = StoredPatches(rows, (embedded.shape[1], embedded.shape[2]), masks)

    def cell_size(self, size: tuple[int, int]) -> tuple[float, float]:
        return self.features.strides[0], self.features.strides[0]

    def learned_bytes(self, size: tuple[int, int], images: int) -> int:
        return self.memory_bank.bytes_of(self._kept(images * self.features.cells(size)[0]), self.width)

    @property
    def width(self) -> int:
        """Number of values of a patch."""
        return self.mean_mapped or sum(self.features.channels)

    def embed(self, images: Tensor) -> Tensor:
        """Patch embeddings on the finest layer's grid: (N, h, w, D)."""
        maps = self.features(images)
        if self.mean_mapped is None:
            embedded = stack_layers([local_mean(m, self.patch_size) for m in maps])
        else:
            embedded = mean_map(maps, self.patch_size, self.mean_mapped)
        return embedded.permute(0, 2, 3, 1)

    def trusted(self, patches: Tensor, origins: Tensor) -> tuple[Tensor, Tensor]:
        """Those training patches (N, D), and their origins (N, 3), that may enter the bank: all unless overridden."""
        return patches, origins

    def _kept(self, patches: int) -> int:
        """Number of these training patches that the bank keeps."""
        return min(patches, self.bank_size or round(self.coreset_ratio * patches))

    def _selection(self, expected: int, width: int, rows: RowFile) -> StreamingCoreset | GreedyCoreset:
        """The selection for an expected number of patches of `width` values; greedy stores them in `rows`."""
        budget = self.bank_size or self.coreset_ratio * expected
        is_quick = (
            expected <= MAX_GREEDY_PATCHES
            and budget <= MAX_GREEDY_CHOICES
            and 4 * width * expected <= free_disk()
        )
        settings: Any = {"ratio": self.coreset_ratio, "size": self.bank_size, "progress": self.progress}
        if self.coreset == "streaming" or (self.coreset == "auto" and not is_quick):
            return StreamingCoreset(expected, **settings)
        return GreedyCoreset(expected, rows, keep_start=self.coreset == "approximate", **settings)

    def _embedded(self, images: Tensor) -> Embedded:
        images, visible = split_padding(images)
        return self.embed(images), visible

    def _counted(self, patches: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """The visible patches (n, D) of a batch and their origins (n, 3): image, row, column; adds to `seen`."""
        inside = visible_grid(visible, (patches.shape[1], patches.shape[2]))
        origins = inside.nonzero()
        origins[:, 0] += self.seen[0]
        self.seen += torch.tensor([len(patches), len(origins)], device=self.seen.device)
        return patches[inside], origins


class MemoryBankMethod(CoresetMethod):
    """Scores patches by the distance to their nearest neighbour in the memory bank."""

    neighbours: int = argument(9, "Bank neighbours that re-weight the image score (1: none).", ge=1, le=1000)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        patches, visible = self._embedded(images)
        distances, indices = self.nearest(patches.flatten(0, 2))
        return self._predicted(patches, distances, indices, visible)

    def update(self, batches: Batches) -> Prediction[Tensor]:
        """Add the patches that the bank does not cover, and thin it to its budget again; see `Method.update`."""
        first = int(self.seen[0])
        uncovered: list[tuple[Tensor, Tensor]] = []
        kept: list[Embedded] = []
        for images in batches:
            patches, visible = self._embedded(images)
            uncovered.append(self.memory_bank.uncovered(*self._counted(patches, visible)))
            if len(kept) * patches[0].numel() < KEPT_VALUES:
                kept += zip(patches.split(1), visible.split(1), strict=True)
        patches, origins = (torch.cat(parts) for parts in zip(*uncovered, strict=True))
        budget = self.bank_size or max(1, round(self.coreset_ratio * int(self.seen[1])))
        self.memory_bank.extend(patches, origins, budget)
        new_images: Iterable[Embedded] = kept
        if len(kept) < int(self.seen[0]) - first:
            new_images = (self._embedded(image[None]) for images in batches for image in images)
        numbers = torch.arange(first, int(self.seen[0]), device=self.seen.device).split(1)
        predictions = [
            self._without(*image, number) for image, number in zip(new_images, numbers, strict=True)
        ]
        return Prediction(*(torch.cat(parts) for parts in zip(*predictions, strict=True)))

    def forget(self, image: Tensor, where: Tensor) -> Tensor:
        """Remove the bank patch nearest to each cell of the defect; see `Method.forget`.

        A defect that is not marked is taken to be the cells whose score is nearly the highest of the image.
        """
        patches, visible = self._embedded(image)
        distances, indices = self.nearest(patches.flatten(0, 2))
        grid = mask_grid(distances.reshape(patches.shape[:3]), visible)
        marked = functional.adaptive_max_pool2d(where[None].to(grid.dtype), grid.shape[1:]) > 0
        if not marked.any():
            marked = grid >= DEFECT_SHARE * grid.max()
        origins = self.memory_bank.remove(indices.reshape(grid.shape)[marked])  # image, row and column
        size = origins.new_tensor([1, *grid.shape[1:]])
        return ((origins + origins.new_tensor([0, 0.5, 0.5])) / size)[:, [0, 2, 1]]

    def nearest(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (Q,) of patches (Q, D) to their nearest ones in the bank, and these patches' indices (Q,)."""
        distances, indices = self.memory_bank.nearest(patches)
        return self.weighted(distances, indices), indices

    def weighted(self, distances: Tensor, indices: Tensor) -> Tensor:
        """Distances (Q,) as the bank's patches at these indices weigh them: unchanged unless overridden."""
        return distances

    @property
    def leaves_out(self) -> bool:
        return not self.memory_bank.is_of_one_image

    def predict_left_out(self, batches: Batches, groups: Tensor) -> Iterator[Prediction[Tensor]]:
        def embedded() -> Iterator[Embedded]:
            parts = (self._embedded(images) for images in batches)
            return (
                pair
                for patches, visible in parts
                for pair in zip(patches.split(1), visible.split(1), strict=True)
            )

        return self._left_out(embedded if self.kept is None else self.kept.__iter__, groups)

    def score_without(self, image: Tensor, numbers: Tensor) -> Prediction[Tensor]:
        return self._without(*self._embedded(image), numbers)

    def from_distances(self, distances: Tensor) -> Tensor:
        """Scores from distances of any shape: the distances themselves unless overridden."""
        return distances

    def image_score(
        self, grid: Tensor, patches: Tensor, indices: Tensor, without: Tensor | None = None
    ) -> Tensor:
        """The worst patch's distance, times 1 − its softmax among the distances to its neighbour's neighbours (N,).

        `without` are the numbers of training images whose patches are no neighbours.
        """
        distance, worst = grid.flatten(1).max(1)  # (N,)
        if self.memory_bank.support.shape[1] == 1:
            return distance
        rows = torch.arange(grid.shape[0], device=grid.device)
        patch = patches.flatten(1, 2)[rows, worst]  # (N, D)
        nearest_index = indices.flatten(1)[rows, worst]
        support = self.memory_bank.patches[
            self.memory_bank.neighbours_of(nearest_index, without)
        ]  # (N, b, D)
        distances = (patch[:, None] - support).square().sum(2).sqrt()
        return distance * (1 - torch.softmax(distances, 1)[:, 0])

    def _predicted(
        self,
        patches: Tensor,
        distances: Tensor,
        indices: Tensor,
        visible: Tensor,
        without: Tensor | None = None,
    ) -> Prediction[Tensor]:
        """Scores and maps of patches (N, h, w, D), from distances and indices of their nearest neighbours (N·h·w,)."""
        grid = mask_grid(distances.reshape(patches.shape[:3]), visible)
        score = self.image_score(grid, patches, indices.reshape(grid.shape), without)
        score, grid = self.from_distances(score), self.from_distances(grid)
        return Prediction(score, upsample(grid, (visible.shape[2], visible.shape[3]), SIGMA))

    def _left_out(
        self, embedded: Callable[[], Iterator[Embedded]], groups: Tensor
    ) -> Iterator[Prediction[Tensor]]:
        """See `predict_left_out`; `embedded` passes over the training images one by one."""
        bank, nearest = self.memory_bank, []
        try:
            for number, (patches, visible) in enumerate(embedded()):
                queries = patches.flatten(0, 2)
                distances, indices = bank.nearest(queries)
                inside = visible_grid(visible, (patches.shape[1], patches.shape[2])).flatten()
                bank.find_substitutes(queries[inside], indices[inside], number, groups)
                nearest.append((distances, indices))
            for number, image in enumerate(embedded()):
                yield self._without(*image, (groups == groups[number]).nonzero()[:, 0], nearest[number])
        finally:
            bank.substitutes = NO_SUBSTITUTES  # frees the memory

    def _without(
        self, patches: Tensor, visible: Tensor, numbers: Tensor, nearest: tuple[Tensor, Tensor] | None = None
    ) -> Prediction[Tensor]:
        """The prediction for an image, patches (1, h, w, D), from the bank patches of other images than `numbers`.

        `nearest` are the distances to the nearest of all bank patches, and their indices.
        """
        distances, indices = self.memory_bank.nearest_of_others(patches.flatten(0, 2), numbers, nearest)
        return self._predicted(patches, self.weighted(distances, indices), indices, visible, without=numbers)
