"""Backbones of the package timm, which is imported here only: `timm:NAME` is any of its networks with feature maps."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blemish.errors import MethodError, MissingExtraError, WeightsError
from blemish.messages import message

PREFIX = "timm:"


class TimmNetwork(nn.Module):
    """Feature maps of a network of timm; layer k is its feature map number k, counted from 0.

    In most networks map k has stride 2^(k+1), as the layers of the other backbones.

    Args:
        name: "timm:" and a name of timm, with its tag of pretrained weights if it has one.
        layers: Numbers of the feature maps.
        pretrained: Whether timm loads its pretrained weights, which it may download; otherwise they are random.
        seed: Seed of random weights.

    Raises:
        MissingExtraError: If the extra `timm` is not installed.
        MethodError: If timm has no such network, or it has no such feature map.
        WeightsError: If timm cannot load the pretrained weights.
    """

    def __init__(self, name: str, layers: Sequence[int], pretrained: bool, seed: int) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self._base = name.removeprefix(PREFIX)
        self.network = _created(name, layers, pretrained, seed)
        information = self.network.feature_info
        self.channels = dict(zip(self.layers, information.channels(), strict=True))
        self.strides = tuple(information.reduction())
        self._settings = self.network.pretrained_cfg
        self.mean, self.std = tuple(self._settings["mean"]), tuple(self._settings["std"])
        self._channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Layer → feature map (N, C_k, ⌈H / stride⌉, ⌈W / stride⌉) of normalised images (N, 3, H, W).

        Raises:
            MethodError: If the network cannot process this size, or its maps have another number of cells.
        """
        try:
            maps = self.network(images)
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError) as error:
            raise self._refused(images, error) from error
        if self._channels_last:
            maps = [grid.permute(0, 3, 1, 2) for grid in maps]
        for grid, stride in zip(maps, self.strides, strict=True):
            expected = [-(-side // stride) for side in images.shape[2:]]
            if list(grid.shape[2:]) != expected:
                reason = message(
                    "its maps have {found} cells instead of {expected}",
                    found="×".join(map(str, grid.shape[2:])),
                    expected="×".join(map(str, expected)),
                )
                raise self._refused(images, reason)
        return dict(zip(self.layers, maps, strict=True))

    def _refused(self, images: Tensor, reason: Exception | str) -> MethodError:
        height, width = images.shape[2:]
        if self._settings.get("fixed_input_size"):
            _, rows, columns = self._settings["input_size"]
            sizes = message("its only size, {height}×{width}", height=rows, width=columns)
        else:
            sizes = message("sides that are multiples of {step}", step=math.lcm(32, *self.strides))
        return MethodError(
            "timm's {base} cannot process images of {height}×{width} pixels: {reason}. Choose {sizes}, or another "
            "network.",
            base=self._base,
            height=height,
            width=width,
            reason=str(reason).rstrip("."),
            sizes=sizes,
        )


def _created(name: str, layers: Sequence[int], pretrained: bool, seed: int) -> Any:
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError(
            "The backbone {name} needs the extra `timm`: pip install 'blemish[timm]'.", name=name
        ) from error
    base = name.removeprefix(PREFIX)
    if not layers or list(layers) != sorted(set(layers)):
        raise MethodError(
            "timm's {base} cannot give the feature maps {layers}. Name one or more of them in rising order.",
            base=base,
            layers=tuple(layers),
        )
    if base.partition(".")[0] not in timm.list_models():
        raise MethodError("timm has no network {base!r}. List its networks by timm.list_models().", base=base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return timm.create_model(
                base, pretrained=pretrained, features_only=True, out_indices=tuple(layers)
            )
        except (IndexError, AssertionError, AttributeError) as error:
            raise MethodError(
                "timm's {base} has no feature maps {layers} ({error}). Name others in layers, finest first.",
                base=base,
                layers=tuple(layers),
                error=error,
            ) from error
        except (OSError, RuntimeError, ValueError) as error:  # of the download and of the hub's client
            raise WeightsError(
                "timm cannot load the pretrained weights of {base}: {error}. Download them once where a network is, "
                "or use {name}:random.",
                base=base,
                error=error,
                name=name,
            ) from error
