"""Normalising flows of affine coupling steps on feature maps.

Dinh et al., "Density estimation using Real NVP", ICLR 2017; the step with its soft clamp and global affine layer
as in Ardizzone et al., "Guided image generation with conditional invertible neural networks", 2019.
Differs: channels are permuted by indexing instead of multiplication with a permutation matrix; maps are stored
channels-last; the subnets' convolutions train in bfloat16 on processors that support it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.flows.coupling import couple, first_channels
from blemish.blocks.mixed_precision import mixed_precision

Subnet = Callable[[int, int], nn.Module]
"""Builds, from (input channels, output channels), the network that predicts a step's s and t; its last child is a
convolution."""

UNIT_SCALE = 2 * math.log(math.expm1(5.0))
"""The parameter for which a step's global scale, 0.1 · softplus with β = 1/2, is 1."""
OUTPUT_SHARE = 0.1
"""Factor of a subnet's output, so that s and t move slowly under Adam, whose steps do not depend on it (FrEIA)."""
NORM_EPS = 1e-5
SMALLEST_VARIANCE = 0.01
"""Added to a channel's variance, relative to the whole map's, so that a nearly constant channel does not dominate."""


class CouplingStep(nn.Module):
    """y = P((x_a, x_b · exp(s) + t) · scale + offset), where s and t are predicted from x_a, the first channels.

    P is a fixed random permutation of the channels. `reset_parameters` draws it and the weights; the subnet's last
    convolution starts at zero, so that an untrained step is the permutation alone.

    Args:
        channels: C ≥ 2; if odd, x_a has one more than x_b.
        subnet: Builds the network that predicts s and t.
        condition: Channels of the condition, which is an input of the subnet beside x_a.
        clamp: Bound α of |s|; s = α · tanh of the subnet's output.
    """

    def __init__(
        self,
        channels: int,
        subnet: Subnet,
        *,
        condition: int = 0,
        clamp: float = 2.0,
    ) -> None:
        super().__init__()
        self.sizes = (channels - channels // 2, channels // 2)
        self.clamp = clamp
        self.subnet = subnet(self.sizes[0] + condition, 2 * self.sizes[1])
        self.raw_scale = nn.Parameter(torch.full((channels,), UNIT_SCALE))
        self.offset = nn.Parameter(torch.zeros(channels))
        self.order: Tensor  # (C,) int64: the channel of x that becomes each channel of y
        self.register_buffer("order", torch.arange(channels))

    def reset_parameters(self) -> None:
        """Draw permutations and weights with torch's global generator."""
        self.order = torch.randperm(len(self.order)).to(self.order.device)
        nn.init.constant_(self.raw_scale, UNIT_SCALE)
        nn.init.zeros_(self.offset)
        init_subnet(self.subnet)

    def forward(
        self, x: Tensor, kept: Tensor, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, H, W) and its x_a → y of that shape, its y_a, and log|det ∂y/∂x| of each image (N,)."""
        raw, scale = self._predicted(kept, condition), self.scale
        y, kept, log = couple(x, raw, scale, self.offset, self.order, self.clamp)
        return y, kept, log + x.shape[2] * x.shape[3] * scale.log().sum()

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """The x that `forward` maps to y."""
        x = y.index_select(1, self.order.argsort())
        x = (x - self.offset[:, None, None]) / self.scale[:, None, None]
        kept, moved = x.split(self.sizes, 1)
        raw, t = self._predicted(kept, condition).chunk(2, 1)
        return torch.cat([kept, (moved - t) * (-self.clamp * torch.tanh(raw)).exp()], 1)

    @property
    def scale(self) -> Tensor:
        """Global scale of each channel (C,), positive."""
        return 0.1 * functional.softplus(self.raw_scale, beta=0.5)

    def _predicted(self, kept: Tensor, condition: Tensor | None) -> Tensor:
        """The values s before their clamp, then t: (N, 2B, H, W)."""
        inputs = kept if condition is None else torch.cat([kept, condition], 1)
        if not self.training or self.offset.dtype != torch.float32:
            return cast("Tensor", OUTPUT_SHARE * self.subnet(inputs))
        with mixed_precision(inputs.device):
            return cast("Tensor", OUTPUT_SHARE * self.subnet(inputs))


class Flow(nn.Module):
    """A sequence of coupling steps with the same condition."""

    def __init__(self, steps: Iterable[CouplingStep]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def reset_parameters(self) -> None:
        """Draw permutations and weights with torch's global generator."""
        for step in self._each():
            step.reset_parameters()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) → z of that shape and log|det ∂z/∂x| of each image (N,)."""
        total = x.new_zeros(x.shape[0])
        kept, x = first_channels(x, self._each()[0].sizes[0])
        for step in self._each():
            x, kept, log_determinant = step(x, kept, condition)
            total = total + log_determinant
        return x, total

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """The x that `forward` maps to z."""
        for step in reversed(self._each()):
            z = step.inverse(z, condition)
        return z

    def _each(self) -> list[CouplingStep]:
        return [cast("CouplingStep", step) for step in self.steps]


class MapNorm(nn.Module):
    """Layer normalisation over a whole map, with a trainable weight and bias for each of its elements.

    The weight's determinant is part of the likelihood; otherwise it would shrink to 0, as small values are more
    likely. The parameters are empty until `reset_parameters` gives them the map's shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0))
        self.bias = nn.Parameter(torch.empty(0))

    def reset_parameters(self, shape: Sequence[int], mean: Tensor, variance: Tensor) -> None:
        """Initialise for maps (C, H, W) such that channels of this mean and variance (C,) get mean 0 and variance 1."""
        weight = (variance + SMALLEST_VARIANCE).rsqrt()
        self.weight = nn.Parameter(_everywhere(weight, shape))
        self.bias = nn.Parameter(_everywhere(-mean * weight, shape))

    @staticmethod
    def normalised(x: Tensor) -> Tensor:
        """Each map (C, H, W) with mean 0 and variance 1."""
        variance, mean = torch.var_mean(x, (1, 2, 3), correction=0, keepdim=True)
        return (x - mean) * (variance + NORM_EPS).rsqrt()

    def forward(self, normalised: Tensor) -> tuple[Tensor, Tensor]:
        """The maps times weight plus bias, and log|det| of that, which is the same for each map."""
        log_weight = self.weight.abs().log().sum()
        if not self.training:
            return torch.addcmul(self.bias, normalised, self.weight), log_weight
        weighted = _Weighted.apply(self.bias, normalised, self.weight)  # type: ignore[no-untyped-call]
        return cast("Tensor", weighted), log_weight


class _Weighted(torch.autograd.Function):
    """addcmul, with gradients summed image after image, which reads memory in order."""

    @staticmethod
    def forward(ctx: Any, bias: Tensor, normalised: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(normalised, weight)
        return torch.addcmul(bias, normalised, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        normalised, weight = ctx.saved_tensors
        bias_gradient, weight_gradient = torch.zeros_like(weight), torch.zeros_like(weight)
        for image, image_gradient in zip(normalised, gradient, strict=True):
            bias_gradient += image_gradient
            weight_gradient.addcmul_(image, image_gradient)
        return bias_gradient, gradient * weight if ctx.needs_input_grad[1] else None, weight_gradient


def _everywhere(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Values per channel (C,) repeated at each position (C, H, W), channels-last in memory like the maps."""
    return values.expand(shape[1], shape[2], -1).contiguous().permute(2, 0, 1)


def convolutions(kernel: int, hidden_ratio: float) -> Subnet:
    """FastFlow's subnet: convolution, ReLU, convolution; hidden channels are `hidden_ratio` times the inputs'."""

    def build(inputs: int, outputs: int) -> nn.Module:
        hidden = max(1, int(hidden_ratio * inputs))
        return nn.Sequential(
            nn.Conv2d(inputs, hidden, kernel, padding=kernel // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, outputs, kernel, padding=kernel // 2),
        )

    return build


def init_subnet(subnet: nn.Module) -> None:
    """Draw a subnet's weights; those of its last layer are set to 0, so that it predicts s = t = 0."""
    layers = [module for module in subnet.modules() if isinstance(module, nn.Conv2d | nn.LayerNorm)]
    for layer in layers:
        layer.reset_parameters()
    for parameter in layers[-1].parameters():
        nn.init.zeros_(parameter)
