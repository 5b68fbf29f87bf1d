"""`compact`: the small network that is embedded in blemish, so that nothing has to be downloaded.

A residual network with 1.9 M parameters, trained by `tools/distill_compact.py` on natural photos and textures to
predict the stage-2 and stage-3 features of two ImageNet ResNets from one trunk.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

STEM = (32, 48)
WIDTHS = {2: 128, 3: 192}


class Compact(nn.Module):
    """Feature maps at strides 8 (layer 2) and 16 (layer 3).

    Each map is a linear read-out of its stage. The read-out is triangular: it preserves the distances between the
    predicted teacher features with as few channels as the stage has (see the tool).
    """

    def __init__(self, last_layer: int = 3) -> None:
        super().__init__()
        self.channels = {k: width for k, width in WIDTHS.items() if k <= last_layer}
        self.stages = {1: STEM[1], **self.channels}
        self.stem = nn.Sequential(
            _conv(3, STEM[0], stride=2), nn.ReLU(), _conv(STEM[0], STEM[1], stride=2), nn.ReLU()
        )
        self.layer1 = nn.Sequential(Residual(STEM[1], STEM[1], 1))
        inputs = STEM[1]
        for k, width in self.channels.items():
            self.add_module(f"layer{k}", nn.Sequential(Residual(inputs, width, 2), Residual(width, width, 1)))
            self.add_module(f"readout{k}", nn.Conv2d(width, width, 1))
            inputs = width

    def forward(
        self, images: Tensor, after: Callable[[int, Tensor], Tensor] = lambda _, x: x
    ) -> dict[int, Tensor]:
        """The maps; `after` is called with the number and the output of each stage, and what it returns goes on."""
        maps = {}
        x = after(1, self.layer1(self.stem(images)))
        for k in self.channels:
            x = after(k, self.get_submodule(f"layer{k}")(x))
            maps[k] = self.get_submodule(f"readout{k}")(x)  # (N, C_k, H / 2^(k+1), W / 2^(k+1))
        return maps

    def path(self) -> list[nn.Conv2d | nn.MaxPool2d]:
        """The layers up to the deepest map in order, through all convolutions and without shortcuts."""
        return [
            module
            for name, module in self.named_modules()
            if isinstance(module, nn.Conv2d) and "shortcut" not in name
        ]


class Residual(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, outputs, stride=stride)
        self.conv2 = _conv(outputs, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv2(functional.relu(self.conv1(x))) + self.shortcut(x))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
