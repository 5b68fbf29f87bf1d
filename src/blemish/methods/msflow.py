"""MSFlow: negative log-likelihood under normalising flows on several scales, joined by a fusion flow.

Zhou et al., "MSFlow: Multiscale Flow-based Framework for Unsupervised Anomaly Detection", TNNLS 2024.
Differs from the paper: the map is −log of the mean p over the layers, so that maps of different images can be
compared; the published maps, relative to the most normal position of the same image, are available; maps are enlarged
from the cells' centres, not from corner to corner; flows start as permutations; results are those of the last epoch.
Written from the paper's formulas, because the authors' code may not be reused.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.anomaly_map import top_mean, upsample
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
"""Number of channels of the positional encoding."""
TOP_SHARE = 0.03
"""Share of the pixels, those of the highest values, whose mean is the image score."""
WARM_UP, INITIAL_FACTOR = 0.12, 0.1
"""Share of the training in which the learning rate rises (3 of 25 meta-epochs), and the factor at its start."""
MILESTONES, DECAY = (0.7, 0.9), 0.33
"""Shares of the training after which the learning rate is multiplied by the decay."""
SMALLEST_P = 1e-30
"""Smallest p whose logarithm is taken, because p of a strong anomaly underflows to 0 in float32."""
CLAMP = 1.9
"""Bound of the logarithm of a coupling step's scale (paper)."""


class MSFlow(Method):
    """Flows with positional encoding, deeper for coarser maps, and a fusion flow; the anomaly map is −log p."""

    backbone: str = arguments.backbone()
    layers: tuple[int, ...] = arguments.layers()
    flow_steps: tuple[int, ...] = argument(
        (2, 5, 8), "Coupling steps of the flows, coarsest map last.", ge=1, le=64
    )
    map: Literal["nll", "mul", "add"] = argument("nll", "Anomaly map: −log p, or one of the published maps.")
    epochs: int = arguments.epochs(30)
    steps: int = arguments.steps(2000)
    batch_size: int = arguments.batch_size(8)
    learning_rate: float = argument(
        1e-4, "Learning rate of Adam between warm-up and step decay.", gt=0, le=10
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
                "MSFlow: flow_steps must have a number for each of the {count} layers, got "
                "{flow_steps}. The default is (2, 5, 8).",
                count=len(self.layers),
                flow_steps=self.flow_steps,
            )
        self.features = Backbone(self.backbone, self.layers)
        channels = self.features.channels
        self.flows = nn.ModuleList(
            Flow(
                CouplingStep(c, normed_convolutions, condition=CODE_CHANNELS, clamp=CLAMP)
                for _ in range(depth)
            )
            for c, depth in zip(channels, self.flow_steps[-len(self.layers) :], strict=True)
        )
        self.fusion = FusionFlow(channels, clamp=CLAMP)
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
        maps, log_determinant = self._apply_flows(prepared)
        squares = torch.stack([0.5 * torch.linalg.vector_norm(z, dim=(1, 2, 3)).square() for z in maps]).sum(
            0
        )
        return (squares - log_determinant).mean()

    def learning_rate_factor(self, done: float) -> float:
        """Linear warm-up from a tenth to 1, then a decay to about a third at each of the two milestones."""
        warmed_up = min(1.0, INITIAL_FACTOR + (1 - INITIAL_FACTOR) * done / WARM_UP)
        return float(warmed_up * DECAY ** sum(done >= milestone for milestone in MILESTONES))

    def optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([*self.flows.parameters(), *self.fusion.parameters()], lr=self.learning_rate)

    def cell_size(self, size: tuple[int, int]) -> tuple[float, float]:
        return 2 * self.features.strides[0], 2 * self.features.strides[0]

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        maps, _ = self._apply_flows(self.prepare(images))
        grids = [mask_grid(0.5 * z.square().mean(1), visible) for z in maps]  # −log p of each cell
        size = (images.shape[2], images.shape[3])
        if self.map == "nll":
            mean = torch.stack([upsample(torch.exp(-grid), size, 0) for grid in grids]).mean(0)
            anomaly_map = -torch.log(mean.clamp_min(SMALLEST_P))
            return Prediction(top_mean(anomaly_map, TOP_SHARE), anomaly_map)
        product = 1 - _relative_p(torch.stack([upsample(grid, size, 0) for grid in grids]).sum(0))
        if self.map == "mul":
            return Prediction(top_mean(product, TOP_SHARE), product)
        total = torch.stack([upsample(_relative_p(grid), size, 0) for grid in grids]).sum(0)
        return Prediction(top_mean(product, TOP_SHARE), total.amax((1, 2), keepdim=True) - total)

    def _apply_flows(self, prepared: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """All flows applied to the feature maps: z of every layer, and the sum of log|det| for each image (N,)."""
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


def _relative_p(negative_log_p: Tensor) -> Tensor:
    """Ratio of p to the largest p of the same image, from −log p (N, H, W)."""
    return torch.exp(negative_log_p.amin((1, 2), keepdim=True) - negative_log_p)
