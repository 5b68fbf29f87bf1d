"""Patch embeddings: feature maps of several layers → one vector per cell of the finest grid."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def local_mean(features: Tensor, size: int) -> Tensor:
    """Mean of each cell's size × size neighbourhood, (N, C, h, w); cells beyond the border count as zeros.

    The zeros scale the patches at the border down, so that the network's border effects do not dominate the score
    of images that differ at their borders.
    """
    return functional.avg_pool2d(features, size, stride=1, padding=size // 2)


def stack_layers(maps: Sequence[Tensor], mode: str = "bilinear") -> Tensor:
    """Resize all maps to the first one's grid and stack their channels: (N, ΣC, h, w).

    `mode` is "bilinear" (PatchCore) or "nearest" (PaDiM: every cell of a coarse map is repeated).
    """
    finest = maps[0]
    size = finest.shape[-2:]
    align = None if mode == "nearest" else False
    coarse = [functional.interpolate(m, size=size, mode=mode, align_corners=align) for m in maps[1:]]
    return torch.cat([finest, *coarse], 1)


def mean_map(maps: Sequence[Tensor], size: int, dimensions: int) -> Tensor:
    """The embedding of amazon-science/patchcore-inspection: (N, dimensions, h, w).

    Each layer's neighbourhoods, flattened in the order (channel, row, column) with zeros beyond the border,
    are averaged down to `dimensions` numbers; the layers' results are concatenated and averaged once more.
    Numbers that are neighbours in that order are averaged, so each mean is over positions and, partly, channels.
    """
    reduced = []
    for features in maps:
        count, _, height, width = features.shape
        patches = functional.unfold(features, size, padding=size // 2)  # (N, C·size², h·w)
        mapped = adaptive_mean(patches, dimensions).reshape(count, dimensions, height, width)
        reduced.append(mapped)
    return adaptive_mean(stack_layers(reduced), dimensions)


def adaptive_mean(values: Tensor, outputs: int) -> Tensor:
    """Adaptive average pooling along axis 1: output i averages inputs ⌊i·n/m⌋ up to ⌈(i+1)·n/m⌉.

    Written as a few gathers, because exporters support adaptive pooling only between sizes that divide.
    """
    inputs = values.shape[1]
    numbers = torch.arange(outputs, device=values.device)
    starts = numbers * inputs // outputs
    lengths = -(-(numbers + 1) * inputs // outputs) - starts
    shape = (1, outputs) + (1,) * (values.ndim - 2)
    total = torch.zeros_like(values[:, :1]).repeat_interleave(outputs, 1)
    for offset in range(-(-inputs // outputs) + 1):
        inside = (offset < lengths).to(values.dtype).view(shape)
        total = total + values[:, (starts + offset).clamp_max(inputs - 1)] * inside
    return total / lengths.to(values.dtype).view(shape)
