"""Classical image filters on tensors: gradients and a Gabor filter bank."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.anomaly_map import gaussian_blur

WAVELENGTH = 6.0
"""Wavelength of the Gabor filters, in pixels of their pyramid level; the envelope's sigma is half of it."""
NOISE = 5.1e-5
"""Variance of camera noise in images of 0 to 1 (about two of 255 grey levels), added before the logarithm."""
ROUNDING = 1 / (255 * math.sqrt(12))
"""Standard deviation of rounding to 256 grey levels, in images of 0 to 1: a lower bound for deviations."""


def gradient_magnitude(images: Tensor) -> Tensor:
    """Magnitude of the gradient by central differences, for each channel of (N, C, H, W), edges repeated."""
    wide = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    along_x = (wide[:, :, 1:-1, 2:] - wide[:, :, 1:-1, :-2]) / 2
    along_y = (wide[:, :, 2:, 1:-1] - wide[:, :, :-2, 1:-1]) / 2
    return (along_x**2 + along_y**2).sqrt()


def gabor_kernels(orientations: int, wavelength: float) -> Tensor:
    """Even and odd Gabor filters (2 · orientations, 1, k, k), even ones first.

    All have mean 0, so that they do not respond to brightness, and unit L2 norm.
    """
    sigma = wavelength / 2
    radius = math.ceil(2.5 * sigma)
    axis = torch.arange(-radius, radius + 1, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    angles = torch.arange(orientations, dtype=torch.float64).mul(math.pi / orientations)[:, None, None]
    phase = 2 * math.pi / wavelength * (x * angles.cos() + y * angles.sin())  # (orientations, k, k)
    envelope = torch.exp(-(x**2 + y**2) / (2 * sigma**2))
    kernels = torch.cat([phase.cos(), phase.sin()])
    kernels = (kernels - (kernels * envelope).sum((1, 2), keepdim=True) / envelope.sum()) * envelope
    kernels = kernels / kernels.square().sum((1, 2), keepdim=True).sqrt()
    return kernels[:, None].to(torch.float32)


class FilterBank(nn.Module):
    """Local texture statistics on a grid, from fixed filters.

    At each level of an image pyramid (factor 2): the energies of Gabor filters in several orientations and of a
    difference of Gaussians, the local standard deviation (all as logarithms, which makes them nearly normal),
    and the local mean of each colour.

    Args:
        orientations: Directions of the Gabor filters, evenly over half a turn.
        levels: Levels of the pyramid.
        stride: Pixels of the finest level per cell of the grid.
    """

    kernels: Tensor

    def __init__(self, orientations: int, levels: int, stride: int) -> None:
        super().__init__()
        self.orientations = orientations
        self.levels = levels
        self.stride = stride
        self.channels = levels * (orientations + 5)
        self.register_buffer("kernels", gabor_kernels(orientations, WAVELENGTH), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) without NaN → (N, D, h, w)."""
        height, width = images.shape[-2:]
        grid = (max(1, height // self.stride), max(1, width // self.stride))
        statistics = []
        for level in range(self.levels):
            if level:
                images = functional.avg_pool2d(images, 2, ceil_mode=True)
            statistics.append(functional.interpolate(self._statistics(images), grid, mode="bilinear"))
        return torch.cat(statistics, dim=1)

    def _statistics(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, orientations + 5, H, W) at one level."""
        grey = images.mean(1, keepdim=True)
        radius = self.kernels.shape[-1] // 2
        responses = functional.conv2d(functional.pad(grey, (radius,) * 4, mode="replicate"), self.kernels)
        even, odd = torch.split(responses, self.orientations, dim=1)
        fine, coarse = gaussian_blur(grey, 1.0), gaussian_blur(grey, 2.0)
        energies = torch.cat([even**2 + odd**2, (fine - coarse) ** 2, (grey - coarse) ** 2], dim=1)
        energies = (gaussian_blur(energies, WAVELENGTH / 2) + NOISE).log()
        return torch.cat([energies, gaussian_blur(images, WAVELENGTH / 2)], dim=1)
