"""Feature maps of a large image, tile by tile, equal to those of the whole image.

A cell of a feature map depends only on the pixels of its receptive field. A tile that is larger than its core by half
a receptive field on each side therefore holds all pixels that the core's cells depend on. At the image's edge the tile
ends with the image, so that the network's own padding is that of the whole image.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product

import torch
from torch import Tensor, nn


def compute_reach(path: Iterable[nn.Conv2d | nn.MaxPool2d]) -> int:
    """Number of pixels on each side of a cell that it depends on: half its receptive field, without the centre.

    Args:
        path: The layers from image to map, first to last; each has an odd kernel, padded by half of it.
    """
    reach, stride = 0, 1
    for step in path:
        reach += _side(step.kernel_size) // 2 * stride
        stride *= _side(step.stride)
    return reach


def tiled(
    network: Callable[[Tensor], Sequence[Tensor]],
    images: Tensor,
    strides: Sequence[int],
    halo: int,
    core: int,
) -> list[Tensor]:
    """The maps of `network` for images (N, 3, H, W), computed from one tile of one image at a time.

    Args:
        network: Returns one map of ⌈H / stride⌉ × ⌈W / stride⌉ cells per stride.
        images: A batch of any size, N ≥ 1; no more than one tile is copied.
        strides: Strides of the maps; each divides the largest.
        halo: Pixels of a tile around its core: at least the network's reach, and a multiple of all strides, so that
            the cells are aligned with those of the whole image.
        core: Side of a tile's core, a multiple of all strides.

    Returns:
        The maps in channels-last order: (N, C, ⌈H / stride⌉, ⌈W / stride⌉) each.
    """
    count, _, height, width = images.shape
    maps: list[Tensor] = []
    for n, y, x in product(range(count), range(0, height, core), range(0, width, core)):
        top, left = max(y - halo, 0), max(x - halo, 0)
        parts = network(images[n : n + 1, :, top : y + core + halo, left : x + core + halo])
        if not maps:
            maps = [_empty(part, count, height, width, s) for part, s in zip(parts, strides, strict=True)]
        for full, part, s in zip(maps, parts, strides, strict=True):
            cells = part[
                0, :, (y - top) // s : (y - top + core) // s, (x - left) // s : (x - left + core) // s
            ]
            full[n, :, y // s : (y + core) // s, x // s : (x + core) // s] = cells
    return maps


def _empty(part: Tensor, count: int, height: int, width: int, stride: int) -> Tensor:
    shape = (count, part.shape[1], -(-height // stride), -(-width // stride))
    return torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)


def _side(size: int | tuple[int, ...]) -> int:
    """Side of a square kernel or stride."""
    return size if isinstance(size, int) else size[0]
