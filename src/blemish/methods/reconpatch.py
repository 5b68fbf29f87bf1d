"""ReConPatch: PatchCore on a linear representation that draws like patches together.

Hyun et al., "ReConPatch: Contrastive Patch Representation Learning for Industrial Anomaly Detection", WACV 2024.
Differs from the paper: AdamW in place of AdamP; both linear layers start as (scaled) isometries, so that learning
starts from PatchCore's own distances; the bandwidth is relative to the mean squared distance of each step's patches, so
that neither the backbone's scale nor that of the projection, which training changes, matters; the loss is a mean over
all pairs; the coreset is PatchCore's.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.memory.contrastive import (
    contextual_similarity,
    pairwise_similarity,
    relaxed_contrastive_loss,
    squared_distances,
)
from blemish.blocks.padding import split_padding, visible_grid
from blemish.blocks.schedules import half_cosine
from blemish.errors import MethodError
from blemish.methods.base import Batches, Preset
from blemish.methods.patchcore import Coreset, PatchCore


class ReConPatch(PatchCore):
    """PatchCore whose patches first go through a linear layer, learned from their mutual similarities.

    Args:
        backbone: Name of the frozen network that embeds the patches.
        layers: Which of its feature maps are stacked, finest first.
        dimensions: Numbers of the learned representation; no more than the stacked channels are used.
        projection: Numbers of the projection that the loss looks at; no more than the representation's are used.
        similar: Neighbours k of the contextual similarity; a patch counts as its own first.
        pairwise_share: Weight α of the pairwise similarity, in [0, 1]; the rest is the contextual one's.
        bandwidth: Of the pairwise similarity exp(−d² / bandwidth), in units of the mean d² of a step's patches.
        margin: Distance, relative to a patch's mean distance, up to which unlike patches repel each other.
        momentum: Share kept in each step by the averaged layers that give the similarities, in [0, 1).
        sampled: Patches looked at in each step, at the same positions of all images of a batch.
        learning_rate: Of the first step; it falls to 0 along half a cosine.
        epochs: Passes over the training images.
        batch_size: Images per step.
        coreset_ratio: Largest share of the training patches kept in the bank, in (0, 1].
        bank_size: Largest number of patches kept, in place of a share; None to go by `coreset_ratio`.
        coreset: "auto", "greedy" or "streaming"; see PatchCore.
        neighbours: Bank neighbours b of the image score's re-weighting; 1 for none.
        patch_size: Side of the neighbourhood averaged around each cell, odd.
    """

    presets: ClassVar = {
        "paper": Preset(
            {"backbone": "wide_resnet50_2", "sampled": 1024, "epochs": 120, "learning_rate": 1e-5},
            {"size": (256, 256), "crop": (224, 224)},
        ),
    }

    def __init__(
        self,
        *,
        backbone: str = "compact",
        layers: Sequence[int] = (2, 3),
        dimensions: int = 512,
        projection: int = 128,
        similar: int = 5,
        pairwise_share: float = 0.5,
        bandwidth: float = 0.3,
        margin: float = 1.0,
        momentum: float = 0.99,
        sampled: int = 512,
        learning_rate: float = 1e-4,
        epochs: int = 10,
        batch_size: int = 8,
        coreset_ratio: float = 0.01,
        bank_size: int | None = None,
        coreset: Coreset = "auto",
        neighbours: int = 9,
        patch_size: int = 3,
    ) -> None:
        super().__init__(
            backbone=backbone,
            layers=layers,
            coreset_ratio=coreset_ratio,
            bank_size=bank_size,
            coreset=coreset,
            neighbours=neighbours,
            patch_size=patch_size,
        )
        counts = {
            "dimensions": dimensions,
            "projection": projection,
            "similar": similar,
            "epochs": epochs,
            "batch_size": batch_size,
        }
        for name, count in counts.items():
            if count < 1:
                raise MethodError(f"{name} must be at least 1, got {count}.")
        if not 0 <= pairwise_share <= 1:
            raise MethodError(
                f"pairwise_share must be in [0, 1], got {pairwise_share}; 1 leaves out the contextual similarity."
            )
        for name, value in {"bandwidth": bandwidth, "margin": margin, "learning_rate": learning_rate}.items():
            if value <= 0:
                raise MethodError(f"{name} must be positive, got {value}.")
        if not 0 <= momentum < 1:
            raise MethodError(
                f"momentum must be in [0, 1), got {momentum}; at 1 the similarities would never be learned."
            )
        if sampled < 2:
            raise MethodError(f"sampled must be at least 2 patches, got {sampled}; 1024 is usual.")
        self.dimensions = dimensions
        self.projection = projection
        self.similar = similar
        self.pairwise_share = pairwise_share
        self.bandwidth = bandwidth
        self.margin = margin
        self.momentum = momentum
        self.sampled = sampled
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size

        width = sum(self.features.channels)
        kept = min(dimensions, width)
        projected = min(projection, kept)
        self.represent = nn.Parameter(torch.zeros(kept, width))  # the paper's f; drawn in `collect`
        self.project = nn.Parameter(torch.zeros(projected, kept))  # the paper's g
        self.averaged_represent: Tensor
        self.averaged_project: Tensor
        self.register_buffer("averaged_represent", torch.zeros(kept, width))
        self.register_buffer("averaged_project", torch.zeros(projected, kept))

    def collect(self, batches: Batches) -> None:
        """Draw the weights; the images come to the bank in `finish`."""
        for weight, averaged in self._layers():
            rows, columns = weight.shape
            nn.init.orthogonal_(weight, math.sqrt(columns / rows))  # keeps distances, or their mean
            averaged.copy_(weight)

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        images, visible = split_padding(images)
        patches = super().embed(images)
        return patches, visible_grid(visible, (patches.shape[1], patches.shape[2]))

    def training_loss(self, *prepared: Tensor) -> Tensor:
        """The relaxed contrastive loss of a sample of the batch's patches."""
        patches, inside = prepared
        if self.training:
            self._follow()
        points = self._sample(patches.flatten(1, 2), inside.bool().flatten(1))
        with torch.no_grad():
            similarity = self.similarity(points @ self.averaged_represent.T @ self.averaged_project.T)
        return relaxed_contrastive_loss(points @ self.represent.T @ self.project.T, similarity, self.margin)

    def learning_rate_factor(self, done: float) -> float:
        return half_cosine(done)

    def optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([self.represent, self.project], lr=self.learning_rate, weight_decay=1e-2)

    def finish(self, batches: Batches) -> None:
        """Fill the bank, as PatchCore does in `collect`."""
        super().collect(batches)

    def embed(self, images: Tensor) -> Tensor:
        """Learned representations on the finest layer's grid: (N, h, w, dimensions)."""
        return functional.linear(super().embed(images), self.represent)

    def similarity(self, points: Tensor) -> Tensor:
        """How alike points (N, D) of a sample are, (N, N) in [0, 1]."""
        squared = squared_distances(points)
        width = self.bandwidth * squared.mean().clamp_min(torch.finfo(squared.dtype).tiny)
        by_distance = pairwise_similarity(squared, width)
        by_neighbours = contextual_similarity(squared, self.similar)
        return self.pairwise_share * by_distance + (1 - self.pairwise_share) * by_neighbours

    def _sample(self, patches: Tensor, inside: Tensor) -> Tensor:
        """About `sampled` visible patches (n, D) of patches (N, h·w, D), at the same places of all images."""
        places = inside.any(0).nonzero()[:, 0]
        drawn = torch.randperm(len(places))[: max(1, self.sampled // len(patches))].to(places.device)
        chosen = places[drawn]
        return patches[:, chosen][inside[:, chosen]]

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averaged layers a little towards the trained ones (exponential moving average)."""
        for weight, averaged in self._layers():
            averaged.lerp_(weight, 1 - self.momentum)

    def _layers(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Each trained layer with its average."""
        return (self.represent, self.averaged_represent), (self.project, self.averaged_project)
