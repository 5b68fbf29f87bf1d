"""Square windows of images: random ones for training, overlapping ones that cover an image for scoring.

Rows and columns are cut and merged one after the other, so that an exported graph grows with the number of windows
along an edge, not with their total number.
"""

import torch
from torch import Tensor
from torch.nn import functional

from blemish.errors import MethodError


def covering_starts(size: tuple[int, int], side: int) -> tuple[list[int], list[int]]:
    """Uppermost rows and leftmost columns of evenly spaced windows that cover an image of `size` (H, W).

    Each window combines one of these rows with one of these columns; neighbours overlap by at least half.

    Raises:
        MethodError: If the image is smaller than a window.
    """
    if min(size) < side:
        raise MethodError(
            "An image of {height} × {width} pixels is smaller than the {side} × {side} of a window. Give larger "
            "images, or choose a smaller size.",
            height=size[0],
            width=size[1],
            side=side,
        )
    tops, lefts = (_starts(length, side) for length in size)
    return tops, lefts


def cut_windows(images: Tensor, side: int) -> Tensor:
    """The covering windows of images (N, C, H, W), image after image: (N·K, C, side, side)."""
    tops, lefts = covering_starts((images.shape[2], images.shape[3]), side)
    bands = torch.stack([images[:, :, top : top + side] for top in tops], dim=1)
    windows = torch.stack([bands[..., left : left + side] for left in lefts], dim=2)
    return windows.flatten(0, 2)


def merge_windows(windows: Tensor, size: tuple[int, int]) -> Tensor:
    """Put the maps (N·K, side, side) of the covering windows together, averaged where they overlap: (N, H, W)."""
    tops, lefts = covering_starts(size, windows.shape[-1])
    each = windows.unflatten(0, (-1, len(tops), len(lefts)))
    bands = _overlaid(each, lefts, size[1])
    return _overlaid(bands.mT, tops, size[0]).mT


def random_windows(images: Tensor, side: int) -> Tensor:
    """One window of each image (N, C, H, W), drawn by torch's global generator: (N, C, side, side)."""
    height, width = images.shape[2:]
    covering_starts((height, width), side)  # raises if the images are too small
    tops = torch.randint(height - side + 1, (len(images),)).tolist()
    lefts = torch.randint(width - side + 1, (len(images),)).tolist()
    return torch.stack(
        [
            image[:, top : top + side, left : left + side]
            for image, top, left in zip(images, tops, lefts, strict=True)
        ]
    )


def _starts(length: int, side: int) -> list[int]:
    """Starts of the windows along one axis: at both ends and evenly between, at most half a window apart."""
    room = length - side
    steps = -(-2 * room // side)
    return [room * step // max(steps, 1) for step in range(steps + 1)]


def _overlaid(parts: Tensor, starts: list[int], length: int) -> Tensor:
    """Average of parts (N, …, K, rows, side) placed at `starts` on an axis of `length`: (N, …, rows, length)."""
    side = parts.shape[-1]
    margins = [(start, length - start - side) for start in starts]
    count = sum(functional.pad(parts.new_ones(side), margin) for margin in margins)
    placed = [functional.pad(parts[..., k, :, :], margin) for k, margin in enumerate(margins)]
    return torch.stack(placed).sum(0) / count
