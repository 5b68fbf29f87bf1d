"""PNI: PatchCore in which position and neighbourhood decide which patches of the bank count.

Bae et al., "PNI: Industrial Anomaly Detection using Position and Neighborhood Information", ICCV 2023.
Differs from the paper: no refinement network; distances are relative to the measured scale of the features; the
network sees principal components of a smaller neighbourhood, and is smaller, unless the preset asks for the paper's;
half-cosine decay of the learning rate, because the result is that of the last step; the bank holds no patches of the
border, whose scores are not used; a bank patch has the class of the nearest representative.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.feature_scale import FeatureScale
from blemish.blocks.grid_border import cell_numbers, inner_cells, repeat_edge, without_border
from blemish.blocks.memory.neighbourhood_prior import OUTSIDE, NeighbourhoodPrior
from blemish.blocks.memory.position_prior import PositionPrior
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.schedules import half_cosine
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Preset
from blemish.methods.memory_bank import CoresetMethod
from blemish.types import Prediction

GAMMA = 0.99
"""γ of the likelihood γ·exp(−γ·distance) of a patch, given a bank patch (paper), for distances in units of the
features' scale."""
LIKELY = 0.5
"""A prior allows a bank patch that is more probable than this share of 1/M, its probability if all were alike
(paper's τ)."""
NUMBERS = 2**22
"""About how many distances, or values of neighbourhoods, are computed at once: 16 MiB."""


class PNI(CoresetMethod):
    """The distance to the nearest bank patch that is usual at the position, and at patches like those around."""

    mean_mapped: int | None = arguments.mean_mapped()
    classes: int = argument(
        512, "Maximum number of classes of patches that the network tells apart.", ge=2, le=65536
    )
    window: int = argument(5, "Side of the neighbourhood, in cells.", ge=3, le=31, odd=True)
    reduced: int = argument(
        64, "Maximum number of principal components of a patch in the neighbourhood.", ge=1, le=8192
    )
    hidden: int = argument(512, "Width of the network's hidden layers.", ge=1, le=16384)
    linear_layers: int = argument(3, "Number of linear layers of the network.", ge=1, le=64)
    leak_center: bool = argument(
        False, "Whether the network sees the patch itself, and not the next one, as in the authors' code."
    )
    sigma: float = arguments.sigma()
    sampled: int = argument(1024, "Number of patches per training step.", ge=2, le=65536)
    learning_rate: float = arguments.learning_rate(1e-3)
    epochs: int = arguments.epochs(20)
    steps: int = arguments.steps(1000)
    batch_size: int = arguments.batch_size(8)

    presets: ClassVar = {
        "paper": Preset(
            {
                "backbone": "wide_resnet101_2",
                "mean_mapped": 1024,
                "coreset": "greedy",
                "patch_size": 5,
                "classes": 2048,
                "window": 9,
                "reduced": 1024,
                "hidden": 2048,
                "linear_layers": 10,
                "sigma": 8.0,
                "sampled": 2048,
                "epochs": 184,  # of 2048 of the 8 · 56² patches of a step: 15 passes over all patches
                "steps": 0,
            },
            {"size": (512, 512), "crop": (480, 480)},
        ),
    }

    def build(self) -> None:
        super().build()
        self.position = PositionPrior()
        self.neighbourhood = NeighbourhoodPrior(
            self.width,
            reduced=self.reduced,
            window=self.window,
            classes=self.classes,
            hidden=self.hidden,
            linear_layers=self.linear_layers,
            leak_center=self.leak_center,
        )
        self.scale: Tensor  # (): median standard deviation of the features' channels
        self.register_buffer("scale", torch.empty(0))

    def collect(self, batches: Batches) -> None:
        """Fill the memory bank, and choose the classes from it."""
        super().collect(batches)
        self.neighbourhood.start(self.memory_bank.patches)

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        """Principal components (N, h, w, R), and the classes of the patches that are not on the border, row by row."""
        patches, inside = self._patches(images)
        inner, counted = without_border(patches, inside)
        classes = self.neighbourhood.classes_of(inner.flatten(0, 2), self.memory_bank.patches)
        classes[~counted.flatten()] = OUTSIDE
        return self.neighbourhood.reduce(patches, inside), classes.view(len(images), -1).int()

    def training_loss(self, *prepared: Tensor) -> Tensor:
        """Cross-entropy of the classes of a sample of patches, at the same positions in all images."""
        components, classes = prepared
        seen = (classes != OUTSIDE).any(0).nonzero()[:, 0]
        drawn = torch.randperm(len(seen))[: max(1, self.sampled // len(classes))].to(seen.device)
        places = seen[drawn]
        return self.neighbourhood.loss(components, cell_numbers(components)[places], classes[:, places])

    def learning_rate_factor(self, done: float) -> float:
        """Half-cosine decay to 0, because the result is that of the last step."""
        return half_cosine(done)

    def optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.neighbourhood.parameters(), lr=self.learning_rate)

    def finish(self, batches: Batches) -> None:
        """Measure the scale of the features, and let all patches vote for the bank patches of their positions."""
        scale = FeatureScale()
        nearest = []
        for images in batches:
            patches, visible = self._embedded(images)
            inside = visible[:, 0]
            scale.add(patches[inside])
            indices = self.memory_bank.nearest(patches.flatten(0, 2))[1].view(inside.shape)
            nearest.append(torch.where(inside, indices, -1).int())
        self.scale = scale.compute()
        bank = len(self.memory_bank.patches)
        self.position.fill(torch.cat(nearest), bank, LIKELY / bank)

    def learned_bytes(self, size: tuple[int, int], images: int) -> int:
        stride = self.features.strides[0]
        rows, columns = (-(-side // stride) for side in size)
        cells = len(cell_numbers(torch.empty(1, rows, columns)))
        kept = self._kept(images * cells)
        bank = self.memory_bank.bytes_of(kept, self.width)
        return bank + self.position.bytes_of(cells, kept) + 8 * kept  # 8 for the class of each

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        patches, inside = self._patches(images)
        grid = GAMMA / self.scale * self.distances(patches, inside) - math.log(GAMMA)
        grid = mask_grid(repeat_edge(grid, inside), ~torch.isnan(images[:, :1]))
        return Prediction(
            grid.flatten(1).amax(1), upsample(grid, (images.shape[2], images.shape[3]), self.sigma)
        )

    def distances(self, patches: Tensor, inside: Tensor) -> Tensor:
        """Mean of the distances to the nearest bank patches that the two priors allow, without the border.

        Args:
            patches: (N, h, w, D).
            inside: (N, h, w) bool, whether each is inside the image.
        """
        search = self.memory_bank.search
        bank = len(search.points)
        components = self.neighbourhood.reduce(patches, inside)
        cells, inner = cell_numbers(patches), inner_cells(patches)
        queries = inner.flatten(1, 2)
        found = []
        for part in self._parts(len(cells), len(patches) if not torch.compiler.is_exporting() else 0):
            by_neighbours = self.neighbourhood.allowed(components, cells[part], LIKELY / bank)
            by_position = self.position.allowed(part, bank).expand_as(by_neighbours)
            masks = [by_neighbours.flatten(0, 1), by_position.flatten(0, 1)]
            pair = search.nearest_allowed(queries[:, part].flatten(0, 1), masks)
            found.append(torch.stack(pair).mean(0).view(queries.shape[0], -1))
        return torch.cat(found, 1).view(inner.shape[:3])

    def _parts(self, cells: int, images: int) -> list[slice]:
        """Cells that are compared at once, such that about `NUMBERS` values are held; all of them for no images."""
        width = max(len(self.memory_bank.patches), self.window**2 * self.neighbourhood.reduced)
        most = max(1, NUMBERS // (width * images)) if images else cells
        return [slice(first, first + most) for first in range(0, cells, most)]

    def _patches(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (N, h, w, D), and which of them are inside the image (N, h, w)."""
        images, visible = split_padding(images)
        patches = self.embed(images)
        return patches, visible_grid(visible, (patches.shape[1], patches.shape[2]))

    def _embedded(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Patches without the border (N, h', w', D), and which of them are inside the image (N, 1, h', w')."""
        patches, inside = without_border(*self._patches(images))
        return patches, inside[:, None]
