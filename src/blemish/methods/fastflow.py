"""FastFlow: negative log-likelihood of feature maps under normalising flows.

Yu et al., "FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows", 2021.
Differs from the paper: the loss is a mean over the dimensions, in nats; the weights of the layer normalisation in
front of each flow start at values that standardise the channels of the training images, and count in the likelihood;
the map is −log of the mean p over the layers, which has the same order as the published mean; training ends when the
likelihood of held-out normal images no longer rises.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.flows.flow import CouplingStep, Flow, MapNorm, convolutions
from blemish.blocks.padding import mask_grid, split_padding
from blemish.features.backbone import Backbone
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method, Preset
from blemish.types import Prediction

MapKind = Literal["nll", "exp"]
_RESNET = {"layers": (1, 2, 3)}
SMALLEST_P = 1e-30
"""Smallest p whose logarithm is taken, because p of a strong anomaly underflows to 0 in float32."""


class FastFlow(Method):
    """One normalising flow per feature map; the anomaly map is −log of the layers' mean p, with p = exp(−½ mean z²)."""

    backbone: str = arguments.backbone()
    layers: tuple[int, ...] = arguments.layers()
    flow_steps: int = argument(8, "Number of coupling steps of each flow.", ge=1, le=64)
    kernels: tuple[int, ...] = argument(
        (3, 1), "Kernel sizes of the subnets, in turn.", ge=1, le=15, odd=True
    )
    hidden_ratio: float = argument(1.0, "Hidden channels of a subnet, relative to its inputs.", gt=0, le=8)
    map: Literal["nll", "exp"] = argument("nll", "Anomaly map: −log p, or −p as in the public code.")
    epochs: int = arguments.epochs(30)
    steps: int = arguments.steps(2000)
    batch_size: int = arguments.batch_size(8)
    learning_rate: float = argument(1e-3, "Learning rate of Adam.", gt=0, le=10)
    weight_decay: float = argument(1e-5, "Weight decay of Adam.", ge=0, le=1)
    patience: int = arguments.patience(5)

    presets: ClassVar = {
        "resnet18": Preset({"backbone": "resnet18", "kernels": (3,), **_RESNET}),
        "paper": Preset(
            {
                "backbone": "wide_resnet50_2",
                **_RESNET,
                "epochs": 500,
                "steps": 0,
                "batch_size": 32,
                "patience": 0,
            },
            {"size": (256, 256)},
        ),
        "vit": Preset(
            {
                "backbone": "hf:facebook/deit-base-distilled-patch16-384",
                "layers": (8,),
                "flow_steps": 20,
                "hidden_ratio": 0.16,
                "epochs": 500,
                "steps": 0,
                "batch_size": 32,
                "patience": 0,
            },
            {"size": (384, 384)},
        ),
    }

    def build(self) -> None:
        self.features = Backbone(self.backbone, self.layers, final_norm=True)
        self.norms = nn.ModuleList(MapNorm() for _ in self.layers)
        subnets = [convolutions(kernel, self.hidden_ratio) for kernel in self.kernels]
        self.flows = nn.ModuleList(
            Flow(CouplingStep(channels, subnets[i % len(subnets)]) for i in range(self.flow_steps))
            for channels in self.features.channels
        )
        self.flows.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def collect(self, batches: Batches) -> None:
        shapes: list[torch.Size] = []
        # Per layer (2, C): means and mean squares of the channels, summed over the images.
        sums: list[Tensor] = []
        count = 0
        for images in batches:
            maps = self.prepare(images)
            added = [torch.stack([x.mean((2, 3)).sum(0), x.square().mean((2, 3)).sum(0)]) for x in maps]
            sums = [a + b for a, b in zip(sums, added, strict=True)] if sums else added
            shapes = [x.shape[1:] for x in maps]
            count += len(images)
        for norm, flow, shape, total in zip(self.norms, self.flows, shapes, sums, strict=True):
            mean, square = total / count
            cast("MapNorm", norm).reset_parameters(shape, mean, (square - mean.square()).clamp_min(0))
            cast("Flow", flow).reset_parameters()

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        """The normalised feature maps of each layer."""
        return tuple(MapNorm.normalised(x) for x in self.features(split_padding(images)[0]))

    def training_loss(self, *prepared: Tensor) -> Tensor:
        """−log p of the feature maps per dimension, without its constant ½ log 2π."""
        total = prepared[0].new_zeros(())
        for z, log_determinant in self._apply_flows(prepared):
            total = (
                total + (0.5 * torch.linalg.vector_norm(z, dim=(1, 2, 3)).square() - log_determinant).mean()
            )
        return total / sum(x[0].numel() for x in prepared)

    def optimizers(self) -> torch.optim.Optimizer:
        learned = [*self.norms.parameters(), *self.flows.parameters()]
        # The loss is a mean over the dimensions; what Adam adds to its gradients and their roots must be, too.
        dimensions = sum(cast("MapNorm", norm).weight.numel() for norm in self.norms)
        return torch.optim.Adam(
            learned, self.learning_rate, eps=1e-8 / dimensions, weight_decay=self.weight_decay / dimensions
        )

    def cell_size(self, size: tuple[int, int]) -> tuple[float, float]:
        return self.features.strides[0], self.features.strides[0]

    def learned_bytes(self, size: tuple[int, int], images: int) -> int:
        maps = zip(self.features.channels, self.features.cells(size), strict=True)
        return 4 * sum(2 * channels * cells for channels, cells in maps)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        size = (images.shape[2], images.shape[3])
        likelihoods = []
        for z, _ in self._apply_flows(self.prepare(images)):
            grid = mask_grid(0.5 * z.square().mean(1), visible)  # −log p of each cell (N, h, w)
            likelihoods.append(upsample(torch.exp(-grid), size, 0))
        mean = torch.stack(likelihoods).mean(0)
        anomaly_map = -torch.log(mean.clamp_min(SMALLEST_P)) if self.map == "nll" else -mean
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def _apply_flows(self, prepared: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Each layer's flow applied to its normalised feature map: z (N, C, h, w) and log|det| (N,)."""
        outputs = []
        for norm, flow, x in zip(self.norms, self.flows, prepared, strict=True):
            weighted, log_weight = norm(x.contiguous(memory_format=torch.channels_last))
            z, log_determinant = flow(weighted)
            outputs.append((z, log_determinant + log_weight))
        return outputs
