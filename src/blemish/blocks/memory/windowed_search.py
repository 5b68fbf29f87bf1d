"""Search for the most similar cell around the same position in several reference maps.

Li et al., "Target before Shooting: Accurate Anomaly Detection and Localization under One Millisecond via Cascade
Patch Retrieval", IEEE TIP 2024.
"""

import torch
from torch import Tensor
from torch.nn import functional

OUTSIDE = -4.0
"""Similarity of cells beyond the border of a map, less than that of any other."""


def windowed_distance(maps: Tensor, references: Tensor, which: Tensor, window: int) -> Tensor:
    """1 − the largest cosine between each cell and the cells around its position in several references, (N, h, w).

    Args:
        maps: (N, C, h, w), of unit length along C.
        references: (M, C, h, w), of unit length along C, in any floating-point type.
        which: Numbers (N, K) of the references that are compared with each map.
        window: Side of the square of cells that is searched, odd.
    """
    reach = window // 2
    height, width = maps.shape[2:]
    beyond = functional.pad(maps.new_zeros(height, width), (reach,) * 4, value=OUTSIDE)
    best = torch.full_like(maps[:, 0], OUTSIDE)
    at_once = which.shape[1] if torch.compiler.is_exporting() else 1  # a short graph, or little memory
    for part in which.split(at_once, 1):
        found = functional.pad(references[part].to(maps.dtype), (reach,) * 4)
        for top in range(window):
            for left in range(window):
                cells = (..., slice(top, top + height), slice(left, left + width))
                cosines = (maps[:, None] * found[cells]).sum(2).amax(1)
                best = torch.maximum(best, cosines + beyond[cells])
    return 1 - best
