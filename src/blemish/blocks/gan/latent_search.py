"""Descent among the codes of a generator, for many pictures at once."""

from collections.abc import Callable

import torch
from torch import Tensor

RATE = 0.1
"""Of Adam in the first step; it falls to 0 along a straight line, so that the search comes to rest."""


def search(
    losses: Callable[[Tensor], Tensor], starts: Tensor, count: int, steps: int
) -> tuple[Tensor, Tensor]:
    """For each of `count` pictures the best code that any of its searches ended at.

    Searches do not influence each other. Nothing is changed, no gradient is left behind, and gradients may be
    switched off; but what `losses` reads must not come from torch's inference mode.

    Args:
        losses: One each (count·R,) of codes (count·R, …), those of one picture one after the other.
        starts: Codes (R, …) that each picture's searches start from.
        count: Number of pictures.
        steps: Steps of each search.

    Returns:
        Codes (count, …) and their losses (count,).
    """
    codes = descend(losses, starts.repeat(count, *[1] * (starts.ndim - 1)), steps)
    with torch.no_grad():
        lowest = losses(codes).unflatten(0, (count, -1)).min(1)
    return codes.unflatten(0, (count, -1))[torch.arange(count), lowest.indices], lowest.values


def descend(losses: Callable[[Tensor], Tensor], starts: Tensor, steps: int) -> Tensor:
    """Codes (N, …) after some steps down from `starts`, each as its own loss (N,) demands."""
    with torch.inference_mode(False), torch.enable_grad():
        codes = starts.clone().requires_grad_()
        optimizer = torch.optim.Adam([codes], lr=RATE)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
            (codes.grad,) = torch.autograd.grad(losses(codes).sum(), codes)
            optimizer.step()
    return codes.detach()
