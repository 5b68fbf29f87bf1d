"""The gradient penalty of Wasserstein GANs (Gulrajani et al., 2017)."""

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (‖∇critic‖ − 1)² at a random point between each real and generated image.

    The points are drawn by torch's global generator. The critic must not mix the images of a batch (no batch norm),
    since the gradient is taken for each image by itself.

    Args:
        critic: Scores (N,) of images (N, …).
        real: Images (N, …).
        fake: As many generated images (N, …); no gradient reaches them.

    Returns:
        A scalar, differentiable by the critic's parameters.
    """
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
    between = torch.lerp(real.detach(), fake.detach(), share).requires_grad_()
    (slopes,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    lengths: Tensor = torch.linalg.vector_norm(slopes.flatten(1), dim=1)
    return (lengths - 1).square().mean()
