"""FastFlow: how unlikely the features at each place are under normalising flows of the normal images' feature maps.

Yu et al., "FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows", 2021.
Differs from the paper: the loss is a mean over the dimensions, in nats; the weight of the layer normalisation in
front of a flow starts at what the training images' channels need and counts in the likelihood; the map is −log
of the layers' mean p, which ranks as the published mean does; training ends when held-out normal images no longer
become more likely.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, cast, get_args

import torch
from torch import Tensor, nn

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.flows.flow import CouplingStep, Flow, MapNorm, convolutions
from blemish.blocks.padding import mask_grid, split_padding
from blemish.errors import MethodError
from blemish.features.backbone import Backbone
from blemish.methods.base import Batches, Method, Preset
from blemish.types import Prediction

MapKind = Literal["nll", "exp"]
_RESNET = {"layers": (1, 2, 3)}
SMALLEST_P = 1e-30
"""Added to p, which far from normal is too small for a float32."""


class FastFlow(Method):
    """A flow per feature map; the anomaly map is −log p, where a layer's p is exp(−½ mean z²).

    Args:
        backbone: Name of the frozen network.
        layers: Which of its feature maps get a flow, finest first.
        flow_steps: Coupling steps of a flow.
        kernels: Sides of the convolutions in the steps, in turn; odd.
        hidden_ratio: Hidden channels of a step's subnet, as a share of those it reads.
        clamp: Bound of the logarithm of what a step multiplies a number with.
        map: "nll" for −log p; "exp" for −p, as the public code has it. p is the mean over the layers.
        epochs: Passes over the training images at most.
        steps: Training steps at most, so that many images take no longer; 0: as many as the epochs need.
        batch_size: Images per training step.
        learning_rate: Of Adam.
        weight_decay: Of Adam.
        patience: Epochs without more likely held-out images after which training ends; 0 for never.
    """

    presets: ClassVar = {
        "resnet18": Preset({"backbone": "resnet18", **_RESNET}),
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
                "layers": (7,),
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

    def __init__(
        self,
        *,
        backbone: str = "compact",
        layers: Sequence[int] = (2, 3),
        flow_steps: int = 8,
        kernels: Sequence[int] = (3, 1),
        hidden_ratio: float = 1.0,
        clamp: float = 2.0,
        map: MapKind = "nll",  # noqa: A002 - the word of every page
        epochs: int = 30,
        steps: int = 720,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-5,
        patience: int = 5,
    ) -> None:
        super().__init__()
        if flow_steps < 1:
            raise MethodError(
                f"flow_steps must be at least 1, got {flow_steps}; the paper uses 8 for ResNets."
            )
        if not kernels or any(kernel < 1 or kernel % 2 == 0 for kernel in kernels):
            raise MethodError(
                f"kernels must be odd and positive, got {tuple(kernels)}; the paper uses (3, 1) or (3,)."
            )
        if hidden_ratio <= 0:
            raise MethodError(
                f"hidden_ratio must be positive, got {hidden_ratio}; the paper uses 1.0 for ResNets."
            )
        if not 0 < clamp <= 10:
            raise MethodError(f"clamp must be in (0, 10], got {clamp}; 2.0 is usual.")
        if map not in get_args(MapKind):
            raise MethodError(f"map must be 'nll' or 'exp', got {map!r}.")
        self.backbone = backbone
        self.layers = layers
        self.flow_steps = flow_steps
        self.kernels = kernels
        self.hidden_ratio = hidden_ratio
        self.clamp = clamp
        self.map = map
        self.epochs = epochs
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience

        self.features = Backbone(backbone, layers)
        self.norms = nn.ModuleList(MapNorm() for _ in layers)
        self.flows = nn.ModuleList(
            Flow(
                CouplingStep(channels, convolutions(kernels[i % len(kernels)], hidden_ratio), clamp=clamp)
                for i in range(flow_steps)
            )
            for channels in self.features.channels
        )
        self.flows.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def collect(self, batches: Batches) -> None:
        shapes: list[torch.Size] = []
        sums: list[Tensor] = []  # of each layer's channels and of their squares (2, C)
        count = 0
        for images in batches:
            maps = self.prepare(images)
            found = [torch.stack([x.mean((2, 3)).sum(0), x.square().mean((2, 3)).sum(0)]) for x in maps]
            sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
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
        for z, log_determinant in self._flown(prepared):
            total = (
                total + (0.5 * torch.linalg.vector_norm(z, dim=(1, 2, 3)).square() - log_determinant).mean()
            )
        return total / sum(x[0].numel() for x in prepared)

    def optimizers(self) -> torch.optim.Optimizer:
        learned = [*self.norms.parameters(), *self.flows.parameters()]
        return torch.optim.Adam(learned, lr=self.learning_rate, weight_decay=self.weight_decay)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        size = (images.shape[2], images.shape[3])
        likely = []
        for z, _ in self._flown(self.prepare(images)):
            grid = mask_grid(0.5 * z.square().mean(1), visible)  # −log p of each cell (N, h, w)
            likely.append(upsample(torch.exp(-grid), size, 0))
        mean = torch.stack(likely).mean(0)
        anomaly_map = -torch.log(mean + SMALLEST_P) if self.map == "nll" else -mean
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def _flown(self, prepared: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """What the flows make of the maps, z and log|det|, of each layer."""
        found = []
        for norm, flow, x in zip(self.norms, self.flows, prepared, strict=True):
            weighted, log_weight = norm(x.contiguous(memory_format=torch.channels_last))
            z, log_determinant = flow(weighted)
            found.append((z, log_determinant + log_weight))
        return found
