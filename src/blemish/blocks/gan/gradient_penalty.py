"""The gradient penalty that keeps a Wasserstein critic's slope at one (Gulrajani et al., 2017)."""

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Mean squared distance from 1 of the critic's slope, at a random place between each real and made picture.

    One share of the way is drawn per picture, by torch's global generator; the critic must not mix the pictures
    of a batch (no batch norm), or a picture's slope would be that of all.

    Args:
        critic: Scores (N,) of pictures (N, …).
        real: Pictures (N, …).
        fake: As many made ones; nothing is learned through them.

    Returns:
        A number whose gradient reaches the critic's parameters.
    """
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
    between = torch.lerp(real.detach(), fake.detach(), share).requires_grad_()
    (slopes,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    lengths: Tensor = torch.linalg.vector_norm(slopes.flatten(1), dim=1)
    return (lengths - 1).square().mean()
