"""Feature maps of a large image, tile by tile, equal to those of the whole image.

A cell of a feature map sees only the pixels of its receptive field. A tile that is larger than its core by half a
receptive field on each side therefore holds all that the core's cells see, and where the image ends earlier the
tile ends with it, so that the network's own padding acts as it does on the whole image.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product

import torch
from torch import Tensor, nn


def compute_reach(path: Iterable[nn.Conv2d | nn.MaxPool2d]) -> int:
    """How many pixels to each side of itself a cell sees: half its receptive field, without the centre.

    Args:
        path: The steps from image to map, first to last; each odd in size and padded by half of it.
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
    """The maps that `network` gives for images (N, 3, H, W), computed from one tile of one image at a time.

    Args:
        network: Gives one map of ⌈H / stride⌉ × ⌈W / stride⌉ cells per stride.
        images: A batch of any size, N ≥ 1; no more than a tile of it is copied.
        strides: Of the maps; each divides the largest.
        halo: Pixels that a tile has around its core: at least the network's reach, a multiple of all strides, so
            that cells lie where they do on the whole image.
        core: Side of the square that a tile contributes, a multiple of all strides.

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
    """Of a window or step that is square."""
    return size if isinstance(size, int) else size[0]
