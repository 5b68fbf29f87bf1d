"""MSFlow: how unlikely features are under flows of several depths, one per scale, that a last flow joins.

Zhou et al., "MSFlow: Multiscale Flow-based Framework for Unsupervised Anomaly Detection", TNNLS 2024.
Differs from the paper: the map is −log of the layers' mean p, so that the maps of two images compare; the published
ones, each measured from its own image's most normal place, are choices. Maps are enlarged from cells' centres, not
from corner to corner. Flows start as permutations. Results are the last epoch's. Written from the paper's formulas,
since the authors' code may not be built upon.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.flows.flow import CouplingStep, Flow
from blemish.blocks.flows.fusion_flow import FusionFlow, normed_convolutions
from blemish.blocks.flows.positional_encoding import positional_encoding
from blemish.blocks.padding import mask_grid, split_padding
from blemish.errors import MethodError
from blemish.features.backbone import Backbone
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method, Preset
from blemish.types import Prediction

MapKind = Literal["nll", "mul", "add"]
CODE_CHANNELS = 64
WORST_SHARE = 0.03
"""Of the pixels, the highest of which the image score is the mean."""
WARM_UP, FIRST_RATE = 0.12, 0.1
"""Three of 25 meta-epochs, in which the learning rate rises from a tenth."""
MILESTONES, DECAY = (0.7, 0.9), 0.33
SMALLEST_P = 1e-30
"""Added to p, which far from normal is too small for a float32."""


class MSFlow(Method):
    """Flows that know their place, deeper for coarser scales, and one over all of them; −log p is the anomaly map."""

    backbone: str = arguments.backbone()
    layers: tuple[int, ...] = arguments.layers()
    flow_steps: tuple[int, ...] = argument(
        (2, 5, 8),
        "Numbers of coupling steps of the flows, that of the coarsest map last; with fewer layers, the first ones "
        "are unused.",
        ge=1,
    )
    clamp: float = argument(1.9, "Bound of the logarithm of a coupling step's scale.", gt=0, le=10)
    map: Literal["nll", "mul", "add"] = argument(
        "nll",
        "Anomaly map: 'nll' for −log p, where p is the mean over the layers; 'mul' and 'add' for the published maps, "
        "whose values are relative to the most normal position of the same image.",
    )
    epochs: int = arguments.epochs(30)
    steps: int = arguments.steps(720)
    batch_size: int = arguments.batch_size(8)
    learning_rate: float = arguments.learning_rate(
        1e-4, "Learning rate of Adam between warm-up and step decay."
    )
    patience: int = arguments.patience(0)

    presets: ClassVar = {
        "resnet18": Preset({"backbone": "resnet18", "layers": (1, 2, 3)}),
        "paper": Preset(
            {"backbone": "wide_resnet50_2", "layers": (1, 2, 3), "map": "add", "epochs": 100, "steps": 0},
            {"size": (512, 512)},
        ),
    }
    clip_norm = 2.0

    def build(self) -> None:
        if len(self.flow_steps) < len(self.layers):
            raise MethodError(
                f"MSFlow: flow_steps must have a number for each of the {len(self.layers)} layers, got "
                f"{self.flow_steps}. The default is (2, 5, 8)."
            )
        self.features = Backbone(self.backbone, self.layers)
        channels = self.features.channels
        self.flows = nn.ModuleList(
            Flow(
                CouplingStep(c, normed_convolutions, condition=CODE_CHANNELS, clamp=self.clamp)
                for _ in range(depth)
            )
            for c, depth in zip(channels, self.flow_steps[-len(self.layers) :], strict=True)
        )
        self.fusion = FusionFlow(channels, clamp=self.clamp)
        for part in (self.flows, self.fusion):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def collect(self, batches: Batches) -> None:
        for flow in self.flows:
            cast("Flow", flow).reset_parameters()
        self.fusion.reset_parameters()

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        """The feature maps of each layer at half their size."""
        maps = self.features(split_padding(images)[0])
        return tuple(functional.avg_pool2d(x, 3, stride=2, padding=1) for x in maps)

    def training_loss(self, *prepared: Tensor) -> Tensor:
        """−log p of all feature maps of an image, without its constant ½ log 2π per dimension."""
        maps, log_determinant = self._flown(prepared)
        squares = torch.stack([0.5 * torch.linalg.vector_norm(z, dim=(1, 2, 3)).square() for z in maps]).sum(
            0
        )
        return (squares - log_determinant).mean()

    def learning_rate_factor(self, done: float) -> float:
        """Rises from a tenth to 1, then falls to a third and to a third of that."""
        warmed = min(1.0, FIRST_RATE + (1 - FIRST_RATE) * done / WARM_UP)
        return float(warmed * DECAY ** sum(done >= milestone for milestone in MILESTONES))

    def optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([*self.flows.parameters(), *self.fusion.parameters()], lr=self.learning_rate)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        maps, _ = self._flown(self.prepare(images))
        grids = [mask_grid(0.5 * z.square().mean(1), visible) for z in maps]  # −log p of each cell
        size = (images.shape[2], images.shape[3])
        if self.map == "nll":
            mean = torch.stack([upsample(torch.exp(-grid), size, 0) for grid in grids]).mean(0)
            anomaly_map = -torch.log(mean + SMALLEST_P)
            return Prediction(_worst(anomaly_map), anomaly_map)
        product = 1 - _relative(torch.stack([upsample(grid, size, 0) for grid in grids]).sum(0))
        if self.map == "mul":
            return Prediction(_worst(product), product)
        total = torch.stack([upsample(_relative(grid), size, 0) for grid in grids]).sum(0)
        return Prediction(_worst(product), total.amax((1, 2), keepdim=True) - total)

    def _flown(self, prepared: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """What the flows make of the maps, z of every layer, and log|det| of all together for each image (N,)."""
        maps, total = [], prepared[0].new_zeros(prepared[0].shape[0])
        for flow, x in zip(self.flows, prepared, strict=True):
            code = positional_encoding(CODE_CHANNELS, x.shape[2], x.shape[3], like=x)
            z, log_determinant = flow(
                x.contiguous(memory_format=torch.channels_last), code.expand(x.shape[0], -1, -1, -1)
            )
            maps.append(z)
            total = total + log_determinant
        maps, log_determinant = self.fusion(maps)
        return maps, total + log_determinant


def _relative(unlikely: Tensor) -> Tensor:
    """From −log p (N, H, W) to p over the largest p of the image."""
    return torch.exp(unlikely.amin((1, 2), keepdim=True) - unlikely)


def _worst(anomaly_map: Tensor) -> Tensor:
    """Mean of the highest pixels of each map (N,)."""
    pixels = anomaly_map.flatten(1)
    return pixels.topk(max(1, int(WORST_SHARE * pixels.shape[1])), dim=1).values.mean(1)
