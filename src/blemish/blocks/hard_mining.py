"""Hard mining: losses over the elements with the largest values, found by selection instead of sorting."""

import math

import torch
from torch import Tensor


def hard_mining_mean(values: Tensor, quantile: float) -> Tensor:
    """Mean of the elements at or above the `quantile` of all elements, ties included; 0 gives the plain mean.

    The quantile is linearly interpolated between two order statistics. No element lies between them, so the elements
    at or above the quantile are those at or above the upper one, which is found in O(n).
    """
    if quantile <= 0:
        return values.mean()
    flat = values.flatten()
    rank = math.ceil(quantile * (flat.numel() - 1))
    threshold = torch.topk(flat.detach(), flat.numel() - rank, sorted=False).values.amin()
    is_hard = flat >= threshold
    return torch.where(is_hard, flat, torch.zeros_like(flat)).sum() / is_hard.sum()
