"""AnomalyDINO: cosine distance of a transformer's patch tokens to those of a few reference images.

Damm et al., "AnomalyDINO: Boosting Patch-based Few-shot Anomaly Detection with DINOv2", WACV 2025.
Differs from the paper: where rotation brings in what lies outside the image, patches are not learned; the principal
component of the foreground is that of the reference images, its threshold relative to its standard deviation, its
sign first such that it is higher in the middle of the image; the blur is in pixels of the network's input, not of the
original image; more patches than a budget are reduced to a coreset.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.anomaly_map import top_mean, upsample
from blemish.blocks.classical.registration import coverage, warp
from blemish.blocks.memory.neighbours import NearestNeighbours
from blemish.blocks.memory.streaming_coreset import StreamingCoreset
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.patches import stack_layers
from blemish.blocks.principal_foreground import PrincipalForeground
from blemish.features.backbone import Backbone
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method, Preset
from blemish.types import Prediction

SIGMA = 4.0
"""Blur of the anomaly map in pixels of the network's input; the paper's number, which is in pixels of the image."""
TOP_SHARE = 0.01
"""Share of the patches, the most anomalous ones, whose mean is the image score (paper)."""


class AnomalyDINO(Method):
    """Keeps the patches of a few normal images, rotated; the cosine distance to the nearest one is the map."""

    backbone: str = arguments.backbone("hf:facebook/dinov2-small")
    layers: tuple[int, ...] = arguments.layers((12,))
    rotations: int = argument(
        8, "Directions, evenly over a full turn, in which each training image is learned.", ge=1, le=360
    )
    foreground: bool = argument(False, "Whether only the product is scored, not the background around it.")
    bank_size: int = argument(
        100_000, "Maximum number of patches; more are reduced to a coreset.", ge=1, le=10_000_000
    )

    presets: ClassVar = {"paper": Preset({"bank_size": 1_000_000}, {"size": (448, 448)})}

    def build(self) -> None:
        self.features = Backbone(self.backbone, self.layers, final_norm=True)
        self.bank = NearestNeighbours()
        self.product = PrincipalForeground()

    def collect(self, batches: Batches) -> None:
        kept: list[Tensor] = []
        coreset: StreamingCoreset | None = None
        for number, images in enumerate(batches):
            images, visible = split_padding(images)
            if number == 0:
                if self.foreground:  # the first images are a random sample
                    patches = self.embed(images)
                    self.product.learn(patches, _inside(visible, patches))
                expected = len(batches) * len(images) * self._seen_of_each((images.shape[2], images.shape[3]))
                if expected > self.bank_size:
                    coreset = StreamingCoreset(expected, size=self.bank_size, progress=self.progress)
            for step in range(self.rotations):
                patches = self._rotated(images, visible, 2 * math.pi * step / self.rotations)
                if coreset is None:
                    kept.append(patches)
                else:
                    coreset.add(patches, patches.new_empty(len(patches), 0, dtype=torch.int64))
        self.bank.build(torch.cat(kept) if coreset is None else coreset.finish()[0])

    def cell_size(self, size: tuple[int, int]) -> tuple[float, float]:
        return self.features.strides[0], self.features.strides[0]

    def learned_bytes(self, size: tuple[int, int], images: int) -> int:
        kept = min(self.bank_size, images * self._seen_of_each(size))
        return self.bank.bytes_of(kept, sum(self.features.channels))

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        patches = self.embed(images)
        lengths, _ = self.bank.nearest(patches.flatten(0, 2))
        grid = (lengths.square() / 2).reshape(patches.shape[:3])  # 1 - cos of unit vectors
        if self.foreground:
            grid = grid * self.product(patches, _inside(visible, patches))
        grid = mask_grid(grid, visible)
        anomaly_map = upsample(grid, (images.shape[2], images.shape[3]), SIGMA)
        return Prediction(top_mean(grid, TOP_SHARE), anomaly_map)

    def embed(self, images: Tensor) -> Tensor:
        """Unit vectors on the finest layer's grid: (N, h, w, D)."""
        return functional.normalize(stack_layers(self.features(images)).permute(0, 2, 3, 1), dim=3)

    def _seen_of_each(self, size: tuple[int, int]) -> int:
        """Maximum number of patches that an image of `size` (H, W) gives in all directions."""
        return self.rotations * self.features.cells(size)[0]

    def _rotated(self, images: Tensor, visible: Tensor, angle: float) -> Tensor:
        """The patches (n, D) of rotated images that lie in the image."""
        motion = images.new_tensor([[angle, 0, 0]]).expand(len(images), 3)
        patches = self.embed(warp(images, motion))
        seen = (warp(visible.to(images), motion) > 0.5) & coverage(motion, *images.shape[2:])[:, None]
        return patches[_inside(seen, patches) & seen.any(3, keepdim=True).any(2)]


def _inside(visible: Tensor, patches: Tensor) -> Tensor:
    """Which cells (N, h, w) of patches (N, h, w, D) lie on the image."""
    return visible_grid(visible, (patches.shape[1], patches.shape[2]))
