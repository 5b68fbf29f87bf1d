"""The border of a feature grid, whose features depend on what is beyond the image.

A grid too small for it has a narrower border, so that at least one cell is not on it.
"""

import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.padding import visible_grid

BORDER = 2 / 60
"""Width as a share of the side: two of 60 cells (Bae et al., "PNI", ICCV 2023)."""


def border(side: int) -> int:
    """Width in cells of the border at both ends of this many cells; at least one, if a cell remains."""
    return min(max(1, round(BORDER * side)), (side - 1) // 2)


def without_border(patches: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Patches (N, h, w, D) without the border, and which of them are inside the image (N, h', w').

    Of an image that shows in the border only, all are, since its padding is filled by reflection.
    """
    inside = inner_cells(inside)
    return inner_cells(patches), visible_grid(inside[:, None], (inside.shape[1], inside.shape[2]))


def inner_cells(grid: Tensor) -> Tensor:
    """A grid (N, h, w, ...) without its border."""
    rows, columns = border(grid.shape[1]), border(grid.shape[2])
    return grid[:, rows : grid.shape[1] - rows, columns : grid.shape[2] - columns]


def repeat_edge(scores: Tensor, grid: Tensor) -> Tensor:
    """Scores (N, h', w') of the inner cells of a grid (N, h, w, ...), repeated on its border: (N, h, w)."""
    rows, columns = border(grid.shape[1]), border(grid.shape[2])
    return functional.pad(scores[:, None], (columns, columns, rows, rows), mode="replicate")[:, 0]


def cell_numbers(grid: Tensor) -> Tensor:
    """Numbers (P,), row by row, of the cells of a grid (N, h, w, ...) that are not on its border."""
    rows, columns = grid.shape[1], grid.shape[2]
    return inner_cells(torch.arange(rows * columns, device=grid.device).view(1, rows, columns)).flatten()
