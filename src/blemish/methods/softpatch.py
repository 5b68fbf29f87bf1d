"""SoftPatch: PatchCore for training images that are not all normal.

Jiang et al., "SoftPatch: Unsupervised Anomaly Detection with Noisy Data", NeurIPS 2022.
Differs from the paper: of its measures of noise only the local outlier factor, its best; factors are computed among
up to a thousand images at a time, so memory is bounded; densities have an upper bound, so that equal patches are not
infinitely dense; the coreset is PatchCore's; the default backbone is the embedded one; no centre crop unless the
preset asks for it.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from blemish.blocks.memory.coreset import PROJECTED, projection
from blemish.blocks.memory.outlier_factor import local_outlier_factors
from blemish.blocks.padding import visible_grid
from blemish.errors import MethodError
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method, Preset
from blemish.methods.memory_bank import MemoryBankMethod

NEIGHBOURS = 6
"""Number of other images, those with the most similar patches, with which a patch is compared (paper)."""
FEWEST_IMAGES = 3
"""With two images both factors are 1, whatever they show."""
GROUP_VALUES = 2**27
"""Projected values that are kept at once (512 MiB): 1024 images of 32 × 32 cells. More images are split into groups."""


class SoftPatch(MemoryBankMethod):
    """A memory bank without the patches that lie apart at their position; the rest weigh the distances to them.

    The parts must be aligned, so that a position shows the same place of the part in every image.
    """

    dropped: float = argument(
        0.15, "Share of the training patches, the most unusual ones, that is not learned.", ge=0, le=0.9
    )

    presets: ClassVar = {
        "paper": Preset(
            {"backbone": "wide_resnet50_2", "coreset": "greedy", "coreset_ratio": 0.1, "neighbours": 1},
            {"size": (256, 256), "crop": (224, 224)},
        ),
    }

    def build(self) -> None:
        super().build()
        self.weights: Tensor  # (M,): outlier factors of the bank's patches
        self.register_buffer("weights", torch.empty(0))

    def collect(self, batches: Batches) -> None:
        """Compute the outlier factor of every training patch; the memory bank is filled in `finish`."""
        matrix = projection(self.width).to(self.weights)
        factors: list[Tensor] = []  # of each group
        group: list[
            tuple[Tensor, Tensor]
        ] = []  # projected patches of each batch, and which are inside the image
        for number, images in enumerate(batches, 1):
            patches, visible = self._embedded(images)
            group.append((patches @ matrix, visible_grid(visible, (patches.shape[1], patches.shape[2]))))
            if number == 1:
                expected = len(batches) * patches[..., 0].numel() * PROJECTED
                groups = min(len(batches), math.ceil(expected / GROUP_VALUES))
            if number * groups // len(batches) > len(factors):
                factors.append(_factors(group))
                group.clear()
        self._factors = torch.cat(factors)
        if len(self._factors) < FEWEST_IMAGES:
            raise MethodError(
                "{name} compares the training images with each other and needs at least {fewest}, got {count}. "
                "Add images.",
                name=type(self).__name__,
                fewest=FEWEST_IMAGES,
                count=len(self._factors),
            )

    def finish(self, batches: Batches) -> None:
        """Fill the memory bank with the patches that are not dropped, as PatchCore does in `collect`."""
        learned = self._factors[self._factors.isfinite()]
        self._largest = learned.kthvalue(len(learned) - int(self.dropped * len(learned))).values
        super().collect(batches)
        self.weights = self._factors[tuple(self.memory_bank.origins.T)]
        del self._factors, self._largest

    update = Method.update
    """Refuses: the images with which new ones would have to be compared are gone."""

    def forget(self, image: Tensor, where: Tensor) -> Tensor:
        weights = dict(zip(map(tuple, self.memory_bank.origins.tolist()), self.weights.tolist(), strict=True))
        removed = super().forget(image, where)
        left = [weights[tuple(origin)] for origin in self.memory_bank.origins.tolist()]
        self.weights = self.weights.new_tensor(left)
        return removed

    def trusted(self, patches: Tensor, origins: Tensor) -> tuple[Tensor, Tensor]:
        """The patches whose outlier factor is not among the largest."""
        kept = self._factors[tuple(origins.T)] <= self._largest
        return patches[kept], origins[kept]

    def weighted(self, distances: Tensor, indices: Tensor) -> Tensor:
        """Each distance times the outlier factor of the nearest patch in the bank."""
        return distances * self.weights[indices]


def _factors(group: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Outlier factors (N, h, w) of the patches of some batches; NaN outside the images."""
    points, inside = (torch.cat(parts) for parts in zip(*group, strict=True))
    found = local_outlier_factors(points.flatten(1, 2), inside.flatten(1), NEIGHBOURS).reshape(inside.shape)
    return found.masked_fill(~inside, torch.nan)
