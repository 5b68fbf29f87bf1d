"""SimpleNet: a discriminator that is trained to tell normal patches from the same patches with noise.

Liu et al., "SimpleNet: A Simple Network for Image Anomaly Detection and Localization", CVPR 2023.
Differs from the paper: the noise is relative to the measured scale of the features, so that a backbone can be
swapped; one AdamW with two parameter groups replaces the authors' AdamW and Adam; half-cosine decay of the learning
rates, because the result is that of the last epoch (the authors keep the best one on the test images); layers are
stacked, not averaged to one width; by default more and smaller steps at a higher learning rate; for scoring, all
linear layers are multiplied into one.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.feature_scale import FeatureScale
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.patches import local_mean, stack_layers
from blemish.blocks.schedules import half_cosine
from blemish.features.backbone import Backbone
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method, Preset
from blemish.types import Prediction

SIGMA = 4.0
"""Blur of the anomaly map in pixels of the network's input (authors' setting)."""
SLOPE = 0.2
"""Slope of the discriminator's LeakyReLU below zero."""
MARGIN = 0.5
"""Margin of the truncated L1 loss on either side of 0 (paper)."""


class SimpleNet(Method):
    """An adaptor and a discriminator of normal against noisy patches; the anomaly map is its negative output."""

    backbone: str = arguments.backbone()
    layers: tuple[int, ...] = arguments.layers()
    patch_size: int = arguments.patch_size()
    hidden: int = argument(512, "Width of the discriminator's hidden layer.", ge=1, le=16384)
    noise: float = argument(
        0.25, "Standard deviation of the noise, relative to that of the features.", gt=0, le=100
    )
    learning_rate: float = arguments.learning_rate(3e-4, "AdamW; the discriminator's is twice as high")
    epochs: int = arguments.epochs(10)
    steps: int = arguments.steps(4000)
    batch_size: int = arguments.batch_size(2)

    presets: ClassVar = {
        "paper": Preset(
            {
                "backbone": "wide_resnet50_2",
                "hidden": 1024,
                "noise": 0.15,  # the paper's 0.015 where the scale is 0.1
                "learning_rate": 1e-4,
                "epochs": 160,
                "steps": 0,
                "batch_size": 4,
            },
            {"size": (329, 329), "crop": (288, 288)},
        ),
    }

    def build(self) -> None:
        self.features = Backbone(self.backbone, self.layers)
        width = sum(self.features.channels)
        self.adaptor = nn.utils.skip_init(nn.Linear, width, width)  # initialised in `collect`
        self.first = nn.utils.skip_init(nn.Linear, width, self.hidden)
        self.norm = nn.BatchNorm1d(self.hidden)
        self.last = nn.utils.skip_init(nn.Linear, self.hidden, 1, bias=False)
        self.scale: Tensor  # (): median standard deviation of the features' channels
        self.weight: Tensor  # (hidden, D): adaptor, first layer and batch norm in one
        self.bias: Tensor  # (hidden,)
        for name in ("scale", "weight", "bias"):
            self.register_buffer(name, torch.empty(0))

    def collect(self, batches: Batches) -> None:
        scale = FeatureScale()
        for images in batches:
            patches, inside = self.prepare(images)
            scale.add(patches[inside])
        self.scale = scale.compute()
        self.norm.reset_parameters()
        for layer in (self.adaptor, self.first, self.last):
            nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        """Patches (N, h, w, D), and which of them are inside the image (N, h, w)."""
        images, visible = split_padding(images)
        patches = self.embed(images)
        return patches, visible_grid(visible, (patches.shape[1], patches.shape[2]))

    def training_loss(self, *prepared: Tensor) -> Tensor:
        """The truncated L1 loss: normal patches should score above `margin`, noisy ones below −`margin`."""
        patches, inside = prepared
        normal = self.adaptor(patches[inside.bool()])
        noisy = normal + self.noise * self.scale * torch.randn_like(normal)
        normal_scores, noisy_scores = self.discriminate(torch.cat([normal, noisy])).chunk(2)
        return truncated_l1(normal_scores, MARGIN) + truncated_l1(-noisy_scores, MARGIN)

    def learning_rate_factor(self, done: float) -> float:
        """Half-cosine decay to 0, because the result is that of the last epoch."""
        return half_cosine(done)

    def optimizers(self) -> torch.optim.Optimizer:
        discriminator = [*self.first.parameters(), *self.norm.parameters(), *self.last.parameters()]
        return torch.optim.AdamW(
            [
                {"params": self.adaptor.parameters(), "lr": self.learning_rate, "weight_decay": 1e-2},
                {"params": discriminator, "lr": 2 * self.learning_rate, "weight_decay": 1e-5},
            ]
        )

    def finish(self, batches: Batches) -> None:
        """Multiply the linear layers before the LeakyReLU into one, from their outputs for 0 and the unit vectors."""
        width = self.adaptor.in_features
        inputs = torch.eye(width + 1, width, device=self.scale.device).roll(1, 0)
        mapped = self.norm(self.first(self.adaptor(inputs)))
        self.bias = mapped[0]
        self.weight = (mapped[1:] - mapped[0]).T.contiguous()

    def cell_size(self, size: tuple[int, int]) -> tuple[float, float]:
        return self.features.strides[0], self.features.strides[0]

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        hidden = functional.leaky_relu(
            functional.linear(self.embed(images), self.weight, self.bias), SLOPE
        )  # (N, h, w, hidden)
        grid = mask_grid(-(hidden @ self.last.weight[0]), visible)
        return Prediction(grid.flatten(1).amax(1), upsample(grid, (images.shape[2], images.shape[3]), SIGMA))

    def embed(self, images: Tensor) -> Tensor:
        """Patch embeddings on the finest layer's grid: (N, h, w, D)."""
        maps = [local_mean(m, self.patch_size) for m in self.features(images)]
        return stack_layers(maps).permute(0, 2, 3, 1)

    def discriminate(self, adapted: Tensor) -> Tensor:
        """Scores (n,) of adapted patches (n, D); higher is more normal."""
        scores: Tensor = self.last(functional.leaky_relu(self.norm(self.first(adapted)), SLOPE))
        return scores[:, 0]


def truncated_l1(scores: Tensor, margin: float) -> Tensor:
    """Mean of max(0, margin − score)."""
    return (margin - scores).clamp_min(0).mean()
