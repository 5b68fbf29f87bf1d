"""GAN losses, named after the network that they train (discriminator, generator or Wasserstein critic)."""

import torch
from torch import Tensor
from torch.nn import functional


def bce_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Goodfellow et al., 2014: mean of the cross-entropies of the logits of real and generated images."""
    return (
        functional.binary_cross_entropy_with_logits(real, torch.ones_like(real))
        + functional.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    ) / 2


def bce_generator_loss(fake: Tensor) -> Tensor:
    """The non-saturating loss: cross-entropy of generated images' logits with the label "real"."""
    return functional.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))


def least_squares_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Least squares (Mao et al., 2017): real images have the target 1, generated ones 0."""
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def least_squares_generator_loss(fake: Tensor) -> Tensor:
    """Least squares: generated images have the target 1."""
    return (fake - 1).square().mean()


def wasserstein_critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Arjovsky et al., 2017: minus the estimated Wasserstein distance between real and generated images."""
    return fake.mean() - real.mean()


def wasserstein_generator_loss(fake: Tensor) -> Tensor:
    """Minus the mean score of generated images."""
    return -fake.mean()
