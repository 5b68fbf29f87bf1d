"""PDN: EfficientAD's patch description network, four (S) or six (M) convolutions without padding.

Batzner et al., "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies", WACV 2024.
One output cell sees 33 × 33 pixels and nothing else; cells are 4 pixels apart. Differs from the paper: the weights
are our own, distilled by `tools/distill_pdn.py`.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.errors import MethodError
from blemish.features.normalisation import Normalise
from blemish.features.weights import loads_pretrained, pretrained_state

CHANNELS = 384
"""Features of a cell."""

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
"""Name → per convolution: its channels (0: as many as the network's outputs), its kernel, whether a mean over
2 × 2 follows. ReLUs stand after all but the last."""

SMALLEST_SIDE = 36
"""Pixels that an image must have in height and in width to give a cell."""

LOST = 4
"""Cells that a PDN, for want of padding, has less than an image on every side."""

RANDOM_SEED = 0


class PDN(nn.Module):
    """A patch description network by its name in `DESIGNS`, with any number of outputs.

    The last convolution (`head`) stands apart, so that who needs part of its outputs computes no others.
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
        """Outputs `first` to `first + count - 1` from what the trunk gave."""
        chosen = slice(first, first + count)
        bias = None if self.head.bias is None else self.head.bias[chosen]
        return functional.conv2d(trunk, self.head.weight[chosen], bias)


class FrozenPDN(nn.Module):
    """The pretrained network that describes patches, frozen for good, and its normalisation of images.

    Args:
        name: A name from `DESIGNS`; "NAME:random" asks for seeded random weights, the control that shows what
            the pretrained ones are worth.

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
                f"No PDN is called {name!r}. Choose one of: {known}; NAME:random for random weights."
            )
        with torch.device("meta"):  # neither time nor the caller's random state is spent on initial values
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
        """Stay in evaluation mode: a frozen network has no other."""
        return super().train(False)


def init_kaiming(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw the weights of all convolutions as He et al. (2015) do, and set their biases to zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def grid_size(size: tuple[int, int]) -> tuple[int, int]:
    """Cells (h, w) that any PDN gives for images of `size` (H, W): 56 × 56 for 256 × 256.

    Raises:
        MethodError: If there would be none.
    """
    if min(size) < SMALLEST_SIDE:
        raise MethodError(
            f"Images of {size[0]} × {size[1]} pixels are too small for a PDN: give at least "
            f"{SMALLEST_SIDE} × {SMALLEST_SIDE}."
        )
    height, width = (((side - 3) // 2 - 3) // 2 - 5 for side in size)
    return height, width
