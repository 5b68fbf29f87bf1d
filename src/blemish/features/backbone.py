"""Backbones: frozen pretrained networks that compute feature maps, finest first."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from blemish.errors import MethodError
from blemish.features.compact import WIDTHS, Compact
from blemish.features.hub import PREFIX, Checkpoint, HubNetwork
from blemish.features.normalisation import Normalise
from blemish.features.resnet import DESIGNS, ResNet, fold_batch_norms, state_dict_shapes
from blemish.features.tiles import compute_reach, tiled
from blemish.features.timm_network import PREFIX as TIMM
from blemish.features.timm_network import TimmNetwork
from blemish.features.weights import loads_pretrained, pretrained_state

NETWORKS: dict[str, tuple[tuple[int, ...], Callable[[int], ResNet | Compact]]] = {
    "compact": (tuple(WIDTHS), Compact),
    **{name: ((1, 2, 3, 4), partial(ResNet, design)) for name, design in DESIGNS.items()},
}
"""Name → (its layers, function that builds it up to a last layer)."""

RANDOM_SEED = 0

LARGEST_UNTILED = 1536 * 1536
"""Maximum number of pixels of an image that passes the network whole; a larger one is tiled.

wide_resnet50_2 needs most memory at the end of a block in stage 1: input, branch, their sum and its ReLU, each
256 channels of float32 at stride 4, are 4 · 256 · 4 / 16 = 256 bytes per pixel: 0.6 GB here, 3 GB at 3000 × 4000.
"""

TILE_CORE = 1024
"""Side in pixels of a tile without its halo. With the halo of wide_resnet50_2's layer 3 (144) tiles are smaller than
`LARGEST_UNTILED` and at most (1312 / 1024)² = 1.6 times the pixels are computed; much smaller cores compute more."""


class Backbone(nn.Module):
    """A frozen pretrained network, cut after the last requested layer, with its normalisation of images.

    Args:
        name: A name from `NETWORKS`, "hf:" and a vision transformer of the Hugging Face Hub, or "timm:" and a
            network of timm. "NAME@FILE" has the weights of a file, "NAME:random" seeded random ones, as the control
            in comparisons.
        layers: Feature maps to return, finest first. Layer k has stride 2^(k+1); in a transformer it is the output
            of block k, and every layer has the stride of the patches; in a network of timm it is feature map k.
        final_norm: Whether the layers of a transformer of the Hub pass its final norm, as the last one does in its
            training. Other networks have none.

    Raises:
        MethodError: If there is no such network, or it has no such layer.
        MissingExtraError: If a transformer or a network of timm is named and its extra is not installed.
        WeightsError: If the weights cannot be found or do not fit.
    """

    def __init__(self, name: str, layers: Sequence[int], *, final_norm: bool = False) -> None:
        super().__init__()
        self.name = name
        self.layers = tuple(layers)
        is_own = not name.startswith((PREFIX, TIMM))  # the names of others may contain @
        base, _, file = name.removesuffix(":random").partition("@" if is_own else "\0")
        pretrained = not name.endswith(":random") and loads_pretrained()
        self.network: ResNet | Compact | HubNetwork | TimmNetwork
        self.halo: int | None  # None: every cell sees the whole image
        if base.startswith(PREFIX):
            checkpoint = Checkpoint(base, pretrained)
            self._check_layers(base, checkpoint.layers)
            self.network = checkpoint.build(self.layers, RANDOM_SEED, final_norm)
            self.normalise = Normalise(checkpoint.mean, checkpoint.std)
            self.strides = (self.network.patch,) * len(self.layers)
            self.halo = None
        elif base.startswith(TIMM):
            self.network = TimmNetwork(base, self.layers, pretrained, RANDOM_SEED)
            self.normalise = Normalise(self.network.mean, self.network.std)
            self.strides = self.network.strides
            self.halo = None
        else:
            self.network = self._built(base, file if pretrained else None)
            self.normalise = Normalise()
            self.strides = tuple(2 ** (k + 1) for k in self.layers)
            coarsest = self.strides[-1]
            self.halo = -(-compute_reach(self.network.path()) // coarsest) * coarsest
        self.channels = tuple(self.network.channels[k] for k in self.layers)
        self.requires_grad_(False)
        self.eval()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on CPUs

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] → one (N, C_k, ⌈H / stride_k⌉, ⌈W / stride_k⌉) per layer.

        Images above `LARGEST_UNTILED` are computed in tiles, with the same result up to float rounding. Neither
        exported graphs, whose size is fixed or unknown, nor transformers, whose position encoding and attention
        span the whole image, use tiles.
        """
        small = images.shape[2] * images.shape[3] <= LARGEST_UNTILED
        if self.halo is None or torch.compiler.is_exporting() or small:
            return self._maps(images)
        return tiled(self._maps, images, self.strides, self.halo, TILE_CORE)

    def staged(self, images: Tensor, after: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
        """The maps if the output of each stage goes on as `after(stage, output)`; for networks with `stages`.

        No image is tiled. A method that trains the network has set `requires_grad` of its parameters.
        """
        return self._maps(images, partial(self.network, after=after))

    @property
    def stages(self) -> dict[int, int]:
        """Number of channels of the output of each stage; empty for a network that is not in `NETWORKS`."""
        return self.network.stages if isinstance(self.network, ResNet | Compact) else {}

    def cells(self, size: tuple[int, int]) -> list[int]:
        """Number of cells of each layer's map for images of `size` (H, W)."""
        return [-(-size[0] // stride) * -(-size[1] // stride) for stride in self.strides]

    def train(self, mode: bool = True) -> Self:
        """Do nothing but return self: a frozen network stays in evaluation mode."""
        return super().train(False)

    def _maps(
        self, images: Tensor, network: Callable[[Tensor], dict[int, Tensor]] | None = None
    ) -> list[Tensor]:
        compute = network or self.network
        maps = compute(self.normalise(images).contiguous(memory_format=torch.channels_last))
        return [maps[k] for k in self.layers]

    def _built(self, base: str, file: str | None) -> ResNet | Compact:
        """The network with the weights of a file, "" for those of its name; None leaves them random."""
        if base not in NETWORKS:
            known = ", ".join(NETWORKS)
            raise MethodError(
                "No backbone is called {name!r}. Choose one of: {known}; NAME@FILE for your own weights of one; "
                "hf:OWNER/MODEL for a vision transformer of the Hugging Face Hub; timm:NAME for a network of timm; "
                "NAME:random for random weights.",
                name=self.name,
                known=known,
            )
        offered, build = NETWORKS[base]
        self._check_layers(base, offered)
        # On the device "meta" no initial values are drawn, which saves time and keeps the caller's random state.
        with torch.device("meta"):
            network = build(max(self.layers))
        network.to_empty(device="cpu")
        if file is None:
            _randomise(network)
        else:
            _load(network, base, Path(file).expanduser() if file else None)
        return network

    def _check_layers(self, base: str, offered: tuple[int, ...]) -> None:
        layers = self.layers
        if not layers or not set(layers) <= set(offered) or list(layers) != sorted(set(layers)):
            raise MethodError(
                "Backbone {base} has the layers {offered}, finest first, but {layers} were requested. "
                "Name one or more of them in rising order.",
                base=base,
                offered=offered,
                layers=layers,
            )


def _randomise(network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(RANDOM_SEED)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _load(network: ResNet | Compact, name: str, file: Path | None) -> None:
    if isinstance(network, ResNet):
        state = fold_batch_norms(pretrained_state(name, state_dict_shapes(network), file))
    else:
        shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        state = pretrained_state(name, shapes, file)
    network.load_state_dict(state)
