"""Batch norms whose statistics, for scoring, are those of all training pictures under the last weights."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of every batch norm by the mean of those of the batches.

    While weights change, running statistics trail behind them, and the last few batches decide most of what they
    are. Here each batch weighs the same, so batches should be as large as in training, and about equally large.

    Args:
        network: Its batch norms are changed in place; their modes and momenta stay, and so do all other modules.
        batches: What the network is given, one after the other.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.training, norm.momentum) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None  # torch's word for the mean of all batches
    with torch.no_grad():
        for batch in batches:
            network(batch)
    for norm, (was_training, momentum) in zip(norms, before, strict=True):
        norm.train(was_training)
        norm.momentum = momentum
