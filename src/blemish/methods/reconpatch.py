"""ReConPatch: PatchCore on a linear representation that is trained to pull similar patches together.

Hyun et al., "ReConPatch: Contrastive Patch Representation Learning for Industrial Anomaly Detection", WACV 2024.
Differs from the paper: AdamW in place of AdamP; both linear layers start as (scaled) isometries, so that training
starts from PatchCore's distances; the bandwidth is relative to the mean squared distance of each step's patches, so
that the scales of the backbone and of the projection do not matter; the loss is a mean over all pairs; the coreset is
PatchCore's.
"""

import math
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
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Preset
from blemish.methods.memory_bank import MemoryBankMethod

PROJECTION = 128
"""Maximum width of the projection that the loss sees."""
NEIGHBOURS = 5
"""Number k of neighbours of the contextual similarity, a patch itself included (paper)."""
BANDWIDTH = 0.3
"""Bandwidth of the pairwise similarity exp(−d² / bandwidth), relative to the mean d² of a step's patches."""
MARGIN = 1.0
"""Distance, relative to a patch's mean distance, up to which dissimilar patches repel each other (paper)."""


class ReConPatch(MemoryBankMethod):
    """PatchCore on patches that pass a linear layer, which is trained on the similarities of pairs of patches."""

    dimensions: int = argument(512, "Maximum width of the learned representation.", ge=1, le=8192)
    pairwise_share: float = argument(0.5, "Weight of pairwise against contextual similarity.", ge=0, le=1)
    momentum: float = argument(0.99, "Momentum of the target layers.", ge=0, lt=1)
    sampled: int = argument(512, "Number of patches per training step.", ge=2, le=65536)
    learning_rate: float = arguments.learning_rate(1e-3, "AdamW")
    epochs: int = arguments.epochs(60)
    steps: int = arguments.steps(1500)
    batch_size: int = arguments.batch_size(8)

    presets: ClassVar = {
        "paper": Preset(
            {
                "backbone": "wide_resnet50_2",
                "sampled": 1024,
                "epochs": 120,
                "steps": 0,
                "learning_rate": 1e-5,
            },
            {"size": (256, 256), "crop": (224, 224)},
        ),
    }

    def build(self) -> None:
        super().build()
        width = sum(self.features.channels)
        kept = min(self.dimensions, width)
        projected = min(PROJECTION, kept)
        self.represent = nn.Parameter(torch.zeros(kept, width))  # the paper's f; initialised in `collect`
        self.project = nn.Parameter(torch.zeros(projected, kept))  # the paper's g
        self.averaged_represent: Tensor
        self.averaged_project: Tensor
        self.register_buffer("averaged_represent", torch.zeros(kept, width))
        self.register_buffer("averaged_project", torch.zeros(projected, kept))

    def collect(self, batches: Batches) -> None:
        """Initialise the weights; the memory bank is filled in `finish`."""
        for weight, averaged in self._layers():
            rows, columns = weight.shape
            nn.init.orthogonal_(weight, math.sqrt(columns / rows))  # keeps distances, at least on average
            averaged.copy_(weight)

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        """The patches of the frozen backbone (N, h, w, D), and which of them are inside the image (N, h, w)."""
        images, visible = split_padding(images)
        patches = super().embed(images)
        return patches, visible_grid(visible, (patches.shape[1], patches.shape[2]))

    def training_loss(self, *prepared: Tensor) -> Tensor:
        """The relaxed contrastive loss of a sample of the batch's patches."""
        patches, inside = prepared
        if self.training:
            self._update_averages()
        points = self._sample(patches.flatten(1, 2), inside.bool().flatten(1))
        with torch.no_grad():
            similarity = self.similarity(points @ self.averaged_represent.T @ self.averaged_project.T)
        return relaxed_contrastive_loss(points @ self.represent.T @ self.project.T, similarity, MARGIN)

    def learning_rate_factor(self, done: float) -> float:
        """Half-cosine decay to 0, because the result is that of the last epoch."""
        return half_cosine(done)

    def optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([self.represent, self.project], lr=self.learning_rate, weight_decay=1e-2)

    def finish(self, batches: Batches) -> None:
        """Fill the memory bank with learned representations, as PatchCore does in `collect`."""
        super().collect(batches)

    @property
    def width(self) -> int:
        return len(self.represent)

    def embed(self, images: Tensor) -> Tensor:
        """Learned representations on the finest layer's grid: (N, h, w, dimensions)."""
        return functional.linear(super().embed(images), self.represent)

    def similarity(self, points: Tensor) -> Tensor:
        """Similarities (N, N) in [0, 1] of all pairs of points (N, D)."""
        squared = squared_distances(points)
        width = BANDWIDTH * squared.mean().clamp_min(torch.finfo(squared.dtype).tiny)
        by_distance = pairwise_similarity(squared, width)
        by_neighbours = contextual_similarity(squared, NEIGHBOURS)
        return self.pairwise_share * by_distance + (1 - self.pairwise_share) * by_neighbours

    def _sample(self, patches: Tensor, inside: Tensor) -> Tensor:
        """About `sampled` visible patches (n, D) of patches (N, h·w, D), at the same positions in all images."""
        positions = inside.any(0).nonzero()[:, 0]
        drawn = torch.randperm(len(positions))[: max(1, self.sampled // len(patches))].to(positions.device)
        chosen = positions[drawn]
        return patches[:, chosen][inside[:, chosen]]

    @torch.no_grad()
    def _update_averages(self) -> None:
        """One step of the exponential moving averages of the trained layers."""
        for weight, averaged in self._layers():
            averaged.lerp_(weight, 1 - self.momentum)

    def _layers(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Pairs of a trained layer and its moving average."""
        return (self.represent, self.averaged_represent), (self.project, self.averaged_project)
