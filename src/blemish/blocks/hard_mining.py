"""Losses that look at the hardest elements only, found by selection instead of a sort."""

import math

import torch
from torch import Tensor


def hard_mining_mean(values: Tensor, quantile: float) -> Tensor:
    """Mean of the elements that are at least the `quantile` of all elements, ties included; 0 is the plain mean.

    The quantile is the linearly interpolated one. No element lies between its two neighbours, so the elements
    that reach it are those that reach the upper one: one order statistic decides, and n elements cost O(n).
    """
    if quantile <= 0:
        return values.mean()
    flat = values.flatten()
    rank = math.ceil(quantile * (flat.numel() - 1))
    threshold = torch.topk(flat.detach(), flat.numel() - rank, sorted=False).values.amin()
    is_hard = flat >= threshold
    return torch.where(is_hard, flat, torch.zeros_like(flat)).sum() / is_hard.sum()
