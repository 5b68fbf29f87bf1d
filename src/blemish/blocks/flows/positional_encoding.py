"""Sinusoidal positional encoding of the cells of a map.

Vaswani et al., "Attention is all you need", NeurIPS 2017, for columns and rows.
"""

import torch
from torch import Tensor

PERIOD = 10000.0
"""About the longest period, in cells, divided by 2π."""


def positional_encoding(channels: int, height: int, width: int, *, like: Tensor) -> Tensor:
    """Sines and cosines of each cell's column, then of its row: (1, channels, height, width), of `like`'s type.

    Args:
        channels: A multiple of 4. Channels 2i and 2i + 1 of either half are the sine and the cosine of
            position · 10000^(−4i/channels).
        height: Rows.
        width: Columns.
        like: A tensor of the device and data type of the result.
    """
    quarter = channels // 4
    frequencies = PERIOD ** (-torch.arange(quarter, device=like.device, dtype=like.dtype) / quarter)

    def waves(count: int) -> Tensor:  # (channels / 2, count)
        angles = frequencies[:, None] * torch.arange(count, device=like.device, dtype=like.dtype)
        return torch.stack([angles.sin(), angles.cos()], 1).flatten(0, 1)

    columns = waves(width)[:, None, :].expand(-1, height, -1)
    rows = waves(height)[:, :, None].expand(-1, -1, width)
    return torch.cat([columns, rows])[None]
