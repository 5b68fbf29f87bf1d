"""Gradient descent on a generator's codes, for many images at once."""

from collections.abc import Callable

import torch
from torch import Tensor

RATE = 0.1
"""Adam's learning rate in the first step; it falls linearly to 0."""


def search(
    losses: Callable[[Tensor], Tensor], starts: Tensor, count: int, steps: int
) -> tuple[Tensor, Tensor]:
    """The best code for each of `count` images, over R searches each.

    Searches are independent of each other. Gradients may be disabled; none is accumulated in parameters. The tensors
    that `losses` reads must not be inference tensors.

    Args:
        losses: Losses (count·R,) of codes (count·R, …), image after image.
        starts: Codes (R, …) that each image's searches start from.
        count: Number of images.
        steps: Steps of each search.

    Returns:
        Codes (count, …) and their losses (count,).
    """
    codes = descend(losses, starts.repeat(count, *[1] * (starts.ndim - 1)), steps)
    with torch.no_grad():
        lowest = losses(codes).unflatten(0, (count, -1)).min(1)
    return codes.unflatten(0, (count, -1))[torch.arange(count), lowest.indices], lowest.values


def descend(losses: Callable[[Tensor], Tensor], starts: Tensor, steps: int) -> Tensor:
    """Codes (N, …) after some steps of Adam from `starts`, each descending its own loss (N,)."""
    with torch.inference_mode(False), torch.enable_grad():
        codes = starts.clone().requires_grad_()
        optimizer = torch.optim.Adam([codes], lr=RATE)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
            (codes.grad,) = torch.autograd.grad(losses(codes).sum(), codes)
            optimizer.step()
    return codes.detach()
