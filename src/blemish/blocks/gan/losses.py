"""GAN losses; each is named after the network that it trains (discriminator, generator or Wasserstein critic)."""

import torch
from torch import Tensor
from torch.nn import functional


def bce_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Goodfellow et al., 2014: the mean of the cross-entropies of logits of real and of made pictures."""
    return (
        functional.binary_cross_entropy_with_logits(real, torch.ones_like(real))
        + functional.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    ) / 2


def bce_generator_loss(fake: Tensor) -> Tensor:
    """The not saturating one: cross-entropy of made pictures' logits with "real"."""
    return functional.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))


def least_squares_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Least squares (Mao et al., 2017): real pictures belong at 1, made ones at 0."""
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def least_squares_generator_loss(fake: Tensor) -> Tensor:
    """Made pictures belong at 1."""
    return (fake - 1).square().mean()


def wasserstein_critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Arjovsky et al., 2017: minus the distance of both kinds that a critic of slope one can see in its scores."""
    return fake.mean() - real.mean()


def wasserstein_generator_loss(fake: Tensor) -> Tensor:
    """Made pictures should score high."""
    return -fake.mean()
