"""The noise of a diffusion model, and reconstructions from one prediction of it.

Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020; the norm-guided reconstruction is that of Zhang et
al., "DiffusionAD: Norm-guided One-step Denoising Diffusion for Anomaly Detection", TPAMI 2025.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

TIMES = 1000
"""Number of time steps; at the last one hardly anything of the image is left."""
FIRST, LAST = 1e-4, 0.02
"""Variance of the noise that the first and the last time step add; linear between them."""


class Noisy(NamedTuple):
    """Images at some time steps, and the noise that a network sees in them."""

    images: Tensor
    """(N, C, H, W)"""
    times: Tensor
    """(N,), whole numbers from 0 to `TIMES` − 1"""
    noise: Tensor
    """(N, C, H, W), about standard normal"""


class NoiseSchedule(nn.Module):
    """How much of an image is left at each time step t: x_t = √ᾱ_t · x + √(1 − ᾱ_t) · noise."""

    def __init__(self) -> None:
        super().__init__()
        left = (1 - torch.linspace(FIRST, LAST, TIMES, dtype=torch.float64)).cumprod(0)
        self.image_share: Tensor  # (TIMES,): √ᾱ
        self.noise_share: Tensor  # (TIMES,): √(1 − ᾱ)
        self.register_buffer("image_share", left.sqrt().float(), persistent=False)
        self.register_buffer("noise_share", (1 - left).sqrt().float(), persistent=False)

    def q_sample(self, images: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """Images (N, C, H, W) with noise, at the time steps (N,)."""
        return _each(self.image_share, times) * images + _each(self.noise_share, times) * noise

    def predict_x0(self, noisy: Noisy) -> Tensor:
        """The images without their noise: the one-step estimate."""
        noise = _each(self.noise_share, noisy.times) * noisy.noise
        return (noisy.images - noise) / _each(self.image_share, noisy.times)

    def norm_guided(self, small: Noisy, large: Noisy, weight: float) -> Tensor:
        """Estimate images, in [-1, 1], from a small and a large time step of each.

        At the small time step the details of a defect survive, at the large one those of the image are lost too. So the
        estimate from the large one, with the noise of the small one added again, shows the direction in which the noise
        that was predicted at the small one is corrected.

        Args:
            small: Images at small time steps, with the predicted noise.
            large: The same images at large time steps, with the predicted noise.
            weight: Of the correction; 0 gives the one-step estimate from the small time step.
        """
        coarse = self.predict_x0(large).clamp(-1, 1)
        towards = self.q_sample(coarse, small.times, small.noise) - small.images
        corrected = small.noise - _each(self.noise_share, small.times) * weight * towards
        return self.predict_x0(small._replace(noise=corrected)).clamp(-1, 1)


def _each(shares: Tensor, times: Tensor) -> Tensor:
    """The share of each image (N, 1, 1, 1)."""
    return shares[times][:, None, None, None]
