"""ResNet trunks: conv1 and stages 1 to 4, without the classifier.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; wide variants: Zagoruyko and
Komodakis, "Wide Residual Networks", BMVC 2016. Module names are torchvision's, so its state dicts fit.
Differs: inference only, so every batch norm is folded into the convolution before it when weights are loaded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH_NORM_EPS = 1e-5


@dataclass(frozen=True, slots=True)
class ResNetDesign:
    """The parameters of a ResNet."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    width_factor: int = 1
    """Factor of the width of a bottleneck's inner 3×3 convolution."""
    stride_in_first_1x1: bool = False
    """Whether a bottleneck's stride is in its first 1×1 convolution, as in Caffe; torchvision has it in the 3×3."""


DESIGNS = {
    "resnet18": ResNetDesign((2, 2, 2, 2), bottleneck=False),
    "resnet34": ResNetDesign((3, 4, 6, 3), bottleneck=False),
    "resnet50": ResNetDesign((3, 4, 6, 3), bottleneck=True),
    "resnet50_caffe": ResNetDesign((3, 4, 6, 3), bottleneck=True, stride_in_first_1x1=True),
    "resnet101": ResNetDesign((3, 4, 23, 3), bottleneck=True),
    "resnet152": ResNetDesign((3, 8, 36, 3), bottleneck=True),
    "wide_resnet50_2": ResNetDesign((3, 4, 6, 3), bottleneck=True, width_factor=2),
    "wide_resnet101_2": ResNetDesign((3, 4, 23, 3), bottleneck=True, width_factor=2),
}


class ResNet(nn.Module):
    """Stages 1 to `last_layer` of a ResNet; `forward` returns the map of each."""

    def __init__(self, design: ResNetDesign, last_layer: int) -> None:
        super().__init__()
        expansion = 4 if design.bottleneck else 1
        self.channels = {k: 64 * 2 ** (k - 1) * expansion for k in range(1, last_layer + 1)}
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = self.channels
        inputs = 64
        for k, outputs in self.channels.items():
            stride = 1 if k == 1 else 2
            blocks = [_block(design, inputs, outputs, stride)]
            blocks += [_block(design, outputs, outputs, 1) for _ in range(design.blocks[k - 1] - 1)]
            self.add_module(f"layer{k}", nn.Sequential(*blocks))
            inputs = outputs

    def forward(
        self, images: Tensor, after: Callable[[int, Tensor], Tensor] = lambda _, x: x
    ) -> dict[int, Tensor]:
        """Layer → feature map (N, C_k, H / 2^(k+1), W / 2^(k+1)) of normalised images (N, 3, H, W).

        Args:
            images: Normalised.
            after: Called with the number and the output of each stage; what it returns is the map, and goes on.
        """
        maps = {}
        x = self.maxpool(functional.relu(self.conv1(images)))
        for k in self.channels:
            x = maps[k] = after(k, self.get_submodule(f"layer{k}")(x))
        return maps

    def path(self) -> list[nn.Conv2d | nn.MaxPool2d]:
        """The layers up to the deepest map in order, through all convolutions and without shortcuts."""
        return [
            module
            for name, module in self.named_modules()
            if isinstance(module, nn.Conv2d | nn.MaxPool2d) and "downsample" not in name
        ]


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (ResNet-18 and -34)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H / stride, W / stride)."""
        y = self.conv2(functional.relu(self.conv1(x)))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions and a shortcut (ResNet-50 and deeper)."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int, stride_in_first_1x1: bool) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_first_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(inputs, inner, 1, stride=first)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=second, padding=1)
        self.conv3 = nn.Conv2d(inner, outputs, 1)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H / stride, W / stride)."""
        y = functional.relu(self.conv1(x))
        y = self.conv3(functional.relu(self.conv2(y)))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


def _block(design: ResNetDesign, inputs: int, outputs: int, stride: int) -> nn.Module:
    if not design.bottleneck:
        return BasicBlock(inputs, outputs, stride)
    inner = outputs // 4 * design.width_factor
    return Bottleneck(inputs, inner, outputs, stride, design.stride_in_first_1x1)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The projection; torchvision calls it `downsample.0` and its batch norm `downsample.1`."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride))


def state_dict_shapes(network: ResNet) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a torchvision state dict for `network`: convolutions and the batch norm after each."""
    shapes: dict[str, tuple[int, ...]] = {}
    for key, tensor in network.state_dict().items():
        if norm := _norm_of(key):
            shapes[key] = tuple(tensor.shape)
            parts = ("weight", "bias", "running_mean", "running_var")
            shapes.update({f"{norm}.{part}": (len(tensor),) for part in parts})
    return shapes


def fold_batch_norms(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a torchvision state dict into one of `ResNet`: convolutions with bias, no batch norms.

    y = γ·(W x − μ)/√(v + ε) + β is one convolution with weight s·W and bias β − s·μ, s = γ/√(v + ε).
    Keys of other layers (`fc`, stages that are not built) are for the caller to remove.
    """
    folded = {}
    for key, weight in state.items():
        norm = _norm_of(key)
        if norm is None or f"{norm}.running_var" not in state:
            continue
        gamma, beta = state[f"{norm}.weight"].float(), state[f"{norm}.bias"].float()
        mean, variance = state[f"{norm}.running_mean"].float(), state[f"{norm}.running_var"].float()
        scale = gamma * torch.rsqrt(variance + BATCH_NORM_EPS)
        folded[key] = weight.float() * scale.view(-1, 1, 1, 1)
        folded[key.removesuffix("weight") + "bias"] = beta - mean * scale
    return folded


def _norm_of(key: str) -> str | None:
    """The name of the batch norm that follows the convolution whose weight is `key`."""
    head, _, tail = key.rpartition(".")
    if tail != "weight":
        return None
    if head.endswith("downsample.0"):
        return head.removesuffix("0") + "1"
    prefix, _, name = head.rpartition(".")
    if not name.startswith("conv"):
        return None
    return f"{prefix}.bn{name[4:]}".lstrip(".")
