"""PDN: EfficientAD's patch description network, four (S) or six (M) convolutions without padding.

Batzner et al., "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies", WACV 2024.
The receptive field of an output cell is 33 × 33 pixels. Differs from the paper: the weights are
distilled by `tools/distill_pdn.py`.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.errors import MethodError
from blemish.features.normalisation import Normalise
from blemish.features.weights import loads_pretrained, pretrained_state

CHANNELS = 384
"""Number of features of a cell."""

STRIDE = 4
"""Distance between neighbouring cells, in pixels."""

DESIGNS: dict[str, tuple[tuple[int, int, bool], ...]] = {
    "pdn_small": ((128, 4, True), (256, 4, True), (256, 3, False), (0, 4, False)),
    "pdn_medium": (
        (256, 4, True),
        (512, 4, True),
        (512, 1, False),
        (512, 3, False),
        (0, 4, False),
        (0, 1, False),
    ),
}
"""Name → per convolution: channels (0: the network's outputs), kernel size, whether 2 × 2 average pooling follows.
All but the last are followed by a ReLU."""

SMALLEST_SIDE = 36
"""Smallest height and width of an image in pixels, which gives one cell."""

LOST = 4
"""Number of cells by which the grid is smaller than the image on every side, since there is no padding."""

RANDOM_SEED = 0


class PDN(nn.Module):
    """A patch description network by its name in `DESIGNS`, with any number of outputs.

    The last convolution (`head`) is separate, so that a part of its outputs can be computed alone.
    """

    def __init__(self, name: str, outputs: int = CHANNELS) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        inputs = 3
        *hidden, (_, last_kernel, _) = DESIGNS[name]
        for width, kernel, pools in hidden:
            steps += [nn.Conv2d(inputs, width or outputs, kernel), nn.ReLU()]
            steps += [nn.AvgPool2d(2)] if pools else []
            inputs = width or outputs
        self.trunk = nn.Sequential(*steps)
        self.head = nn.Conv2d(inputs, outputs, last_kernel)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalised → (N, outputs, h, w), see `grid_size`."""
        features: Tensor = self.head(self.trunk(images))
        return features

    def part(self, trunk: Tensor, first: int, count: int) -> Tensor:
        """Outputs `first` to `first + count - 1` from the trunk's features."""
        chosen = slice(first, first + count)
        bias = None if self.head.bias is None else self.head.bias[chosen]
        return functional.conv2d(trunk, self.head.weight[chosen], bias)


class FrozenPDN(nn.Module):
    """A frozen pretrained PDN with its normalisation of images.

    Args:
        name: A name from `DESIGNS`; "NAME:random" has seeded random weights instead of pretrained ones, as the
            control in comparisons.

    Raises:
        MethodError: If there is no such network.
        WeightsError: If the weights cannot be found or do not fit.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.base = base = name.removesuffix(":random")
        if base not in DESIGNS:
            known = ", ".join(DESIGNS)
            raise MethodError(
                "No PDN is called {name!r}. Choose one of: {known}; NAME:random for random weights.",
                name=name,
                known=known,
            )
        with torch.device("meta"):  # draws no initial values: saves time and keeps the caller's random state
            self.network = PDN(base)
        self.network.to_empty(device="cpu")
        if name == base and loads_pretrained():
            shapes = {key: tuple(tensor.shape) for key, tensor in self.network.state_dict().items()}
            self.network.load_state_dict(pretrained_state(base, shapes))
        else:
            init_kaiming(self.network, torch.Generator().manual_seed(RANDOM_SEED))
        self.requires_grad_(False)
        self.eval()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPUs

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] → (N, 384, h, w)."""
        features: Tensor = self.network(self.normalise(images).contiguous(memory_format=torch.channels_last))
        return features

    def train(self, mode: bool = True) -> Self:
        """Do nothing but return self: a frozen network stays in evaluation mode."""
        return super().train(False)


def init_kaiming(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw the weights of all convolutions as in He et al. (2015), and set their biases to zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def grid_size(size: tuple[int, int]) -> tuple[int, int]:
    """Grid (h, w) of any PDN for images of `size` (H, W): 56 × 56 for 256 × 256.

    Raises:
        MethodError: If the images are too small for one cell.
    """
    if min(size) < SMALLEST_SIDE:
        raise MethodError(
            "Images of {height} × {width} pixels are too small for a PDN: give at least {side} × {side}.",
            height=size[0],
            width=size[1],
            side=SMALLEST_SIDE,
        )
    height, width = (((side - 3) // 2 - 3) // 2 - 5 for side in size)
    return height, width
