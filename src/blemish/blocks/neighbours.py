"""Exact nearest neighbours by blocked matrix products."""

import torch
from torch import Tensor

BLOCK_NUMBERS = 2**25
"""Distances held at once: 128 MiB of float32."""


def nearest(queries: Tensor, bank: Tensor, bank_norms: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to, and index of, each query's nearest bank row.

    The neighbour is found through |q|² + |b|² − 2·q·b, which rounds badly for near ones; its distance is then
    taken from the difference itself.

    Args:
        queries: (Q, D).
        bank: (M, D).
        bank_norms: (M,) squared norms of the bank's rows.

    Returns:
        Euclidean distances (Q,) and indices (Q,) int64.
    """
    if torch.compiler.is_exporting():
        indices = _squared_less_query(queries, bank, bank_norms).argmin(1)
    else:
        blocks = queries.split(max(1, BLOCK_NUMBERS // len(bank)))
        indices = torch.cat([_squared_less_query(block, bank, bank_norms).argmin(1) for block in blocks])
    return (queries - bank[indices]).square().sum(1).sqrt(), indices


def neighbour_lists(bank: Tensor, bank_norms: Tensor, count: int) -> Tensor:
    """For each bank row the `count` nearest rows, itself first: (M, count) int64."""
    blocks = []
    for start, block in enumerate(bank.split(max(1, BLOCK_NUMBERS // len(bank)))):
        distances = _squared_less_query(block, bank, bank_norms)
        rows = torch.arange(len(block), device=bank.device)
        distances[rows, rows + start * max(1, BLOCK_NUMBERS // len(bank))] = -torch.inf
        blocks.append(distances.topk(count, dim=1, largest=False, sorted=True).indices)
    return torch.cat(blocks)


def _squared_less_query(queries: Tensor, bank: Tensor, bank_norms: Tensor) -> Tensor:
    """|b|² − 2·q·b: the squared distance up to |q|², which does not change which one is nearest."""
    return torch.addmm(bank_norms, queries, bank.T, alpha=-2)
