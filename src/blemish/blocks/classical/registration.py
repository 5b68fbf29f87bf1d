"""Rigid registration of one picture to another: phase correlation, then Gauss-Newton refinement."""

import math

import torch
from torch import Tensor
from torch.nn import functional

COARSE, FINE = 64, 128
"""Longer side, in pixels, of the pictures on which motions are searched and refined."""
LARGEST_SHIFT = 0.25
"""Of the picture's sides; a larger one is taken for a false match."""
SEARCH_STEP = 2.5
"""Degrees between the rotations that are tried."""
REFINEMENTS = 8
LEAST_ALIKE = 0.5
"""Correlation of the pictures under which a motion is taken for a chance match."""
LEAST_GAIN = 0.1
"""A motion must close this share of the gap between correlation and 1, or the identity is kept."""
TINY = 1e-6


def phase_correlation(fixed: Tensor, moving: Tensor, largest: float = 0.5) -> Tensor:
    """Shift (N, 2), as (y, x) in pixels, so that fixed(p) ≈ moving(p + shift); circular, with subpixels.

    Kuglin and Hines, "The phase correlation image alignment method", 1975.

    Args:
        fixed: (N, H, W).
        moving: (N, H, W).
        largest: Largest shift that is considered, as a share of each side.
    """
    height, width = fixed.shape[-2:]
    spectrum = torch.fft.rfft2(fixed).conj() * torch.fft.rfft2(moving)
    surface = torch.fft.irfft2(spectrum / spectrum.abs().clamp_min(TINY), s=(height, width))
    far_y = torch.fft.fftfreq(height, device=fixed.device).abs() > largest
    far_x = torch.fft.fftfreq(width, device=fixed.device).abs() > largest
    allowed = surface.masked_fill(far_y[:, None] | far_x, -torch.inf)
    peak = allowed.flatten(1).argmax(1)
    y, x = peak // width, peak % width
    each = torch.arange(len(fixed), device=fixed.device)
    column = torch.stack([surface[each, (y + step) % height, x] for step in (-1, 0, 1)])
    row = torch.stack([surface[each, y, (x + step) % width] for step in (-1, 0, 1)])
    shift_y = torch.where(y > height // 2, y - height, y) + _parabola_peak(column)
    shift_x = torch.where(x > width // 2, x - width, x) + _parabola_peak(row)
    return torch.stack([shift_y, shift_x], dim=1)


def warp(images: Tensor, motion: Tensor) -> Tensor:
    """Move images (N, C, H, W): result(p) = image(R(angle) · p + shift), p from the centre, edges repeated.

    Args:
        images: Without NaN.
        motion: (N, 3): angle in radians, shift y and x in pixels.
    """
    height, width = images.shape[-2:]
    y, x, _ = _moved(motion, height, width)
    grid = torch.stack([2 * x / width, 2 * y / height], dim=-1)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def coverage(motion: Tensor, height: int, width: int) -> Tensor:
    """Pixels (N, H, W) to which `warp` brings something from inside the image rather than a repeated edge."""
    y, x, _ = _moved(motion, height, width)
    return (y.abs() <= height / 2) & (x.abs() <= width / 2)


def register(fixed: Tensor, moving: Tensor, visible: Tensor, largest_angle: float) -> Tensor:
    """Rigid motion (N, 3) for `warp` that lays each moving picture onto its fixed one.

    The identity wherever no motion makes the pictures clearly more alike: round or blank objects give no hold.

    Args:
        fixed: (N, H, W) grey.
        moving: (N, H, W) grey.
        visible: (N, H, W): pixels of the fixed picture that count.
        largest_angle: Rotations are searched from minus to plus this, in degrees.
    """
    coarse, fine = (_shrunk((fixed, moving, visible.to(fixed)), longer) for longer in (COARSE, FINE))
    still = fixed.new_zeros(len(fixed), 3)
    found = [_refine(*coarse, start) for start in (_search(*coarse, largest_angle), still)]
    steady = _correlation(*coarse, found[1]) >= _correlation(*coarse, found[0])
    motion = torch.where(steady[:, None], found[1], found[0])
    motion = _refine(*fine, _scaled(motion, fine[0].shape[-1] / coarse[0].shape[-1]))
    alike, unmoved = _correlation(*fine, motion), _correlation(*fine, still)
    believed = (alike > LEAST_ALIKE) & (alike - unmoved > LEAST_GAIN * (1 - unmoved))
    motion = _scaled(motion, fixed.shape[-1] / fine[0].shape[-1])
    angle, shift_y, shift_x = motion.abs().unbind(1)
    believed &= angle <= math.radians(largest_angle + SEARCH_STEP / 2)
    believed &= (shift_y <= LARGEST_SHIFT * fixed.shape[-2]) & (shift_x <= LARGEST_SHIFT * fixed.shape[-1])
    return torch.where(believed[:, None], motion, still)


def _search(fixed: Tensor, moving: Tensor, weight: Tensor, largest_angle: float) -> Tensor:
    """The best of a few rotations (N, 3), each with the shift that phase correlation finds for it."""
    count = 1 + 2 * math.ceil(largest_angle / SEARCH_STEP)
    height, width = fixed.shape[-2:]
    window = torch.hann_window(height, device=fixed.device)[:, None] * torch.hann_window(
        width, device=fixed.device
    )
    mean = (fixed * weight).sum((1, 2), keepdim=True) / weight.sum((1, 2), keepdim=True).clamp_min(1)
    target = (fixed - mean) * weight * window
    motions, alike = [], []
    for angle in torch.linspace(-largest_angle, largest_angle, count).deg2rad().tolist():
        turn = fixed.new_tensor([angle, 0, 0]).expand(len(fixed), 3)
        turned = warp(moving[:, None], turn)[:, 0]
        centred = (turned - turned.mean((1, 2), keepdim=True)) * window
        y, x = phase_correlation(target, centred, LARGEST_SHIFT).unbind(1)
        cos, sin = turn[:, 0].cos(), turn[:, 0].sin()
        motions.append(torch.stack([turn[:, 0], sin * x + cos * y, cos * x - sin * y], dim=1))
        alike.append(_correlation(fixed, moving, weight, motions[-1]))
    choice = torch.stack(alike).argmax(0)
    return torch.stack(motions)[choice, torch.arange(len(fixed), device=fixed.device)]


def _refine(fixed: Tensor, moving: Tensor, weight: Tensor, motion: Tensor) -> Tensor:
    """Gauss-Newton on the squared difference of the pictures, both brought to mean 0 and variance 1."""
    height, width = fixed.shape[-2:]
    slope_y, slope_x = torch.gradient(moving, dim=(1, 2))
    layers = torch.stack([moving, slope_y, slope_x], dim=1)
    unit = fixed.new_tensor([2 / height, 1, 1])  # angles as the arc they make at the edge: like scales
    for _ in range(REFINEMENTS):
        warped, slope_y, slope_x = warp(layers, motion).unbind(1)
        inside = weight * coverage(motion, height, width)
        target, _ = _standardised(fixed, inside)
        source, scale = _standardised(warped, inside)
        y, x, shift = _moved(motion, height, width)
        turning = slope_y * (x - shift[1]) - slope_x * (y - shift[0])
        slopes = torch.stack([turning, slope_y, slope_x], dim=-1) / scale[..., None] * unit  # (N, H, W, 3)
        slopes = (slopes * inside[..., None]).flatten(1, 2)
        error = ((target - source) * inside).flatten(1, 2)
        normal = slopes.transpose(1, 2) @ slopes
        normal = normal + TINY * (1 + normal.diagonal(dim1=1, dim2=2).sum(1))[:, None, None] * torch.eye(
            3
        ).to(normal)
        step = torch.linalg.solve(normal, slopes.transpose(1, 2) @ error[..., None])[..., 0]
        motion = motion + step * unit
    return motion


def _correlation(fixed: Tensor, moving: Tensor, weight: Tensor, motion: Tensor) -> Tensor:
    """Normalised correlation (N,) of fixed and moved pictures where both are seen; -1 if that is under a half."""
    inside = weight * coverage(motion, fixed.shape[-2], fixed.shape[-1])
    target, _ = _standardised(fixed, inside)
    source, _ = _standardised(warp(moving[:, None], motion)[:, 0], inside)
    count = inside.sum((1, 2))
    alike = (target * source * inside).sum((1, 2)) / count.clamp_min(1)
    return torch.where(count >= 0.5 * weight.sum((1, 2)), alike, torch.full_like(alike, -1)).nan_to_num(-1)


def _standardised(pictures: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures with weighted mean 0 and variance 1, and the standard deviation (N, 1, 1) they had."""
    total = weight.sum((1, 2), keepdim=True).clamp_min(1)
    centred = pictures - (pictures * weight).sum((1, 2), keepdim=True) / total
    scale = ((centred**2 * weight).sum((1, 2), keepdim=True) / total).sqrt().clamp_min(TINY)
    return centred / scale, scale


def _moved(motion: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where each pixel looks, y and x (N, H, W) from the centre, and the shift (2, N, 1, 1)."""
    angle, shift_y, shift_x = motion[:, :, None, None].unbind(1)
    y = torch.arange(height, device=motion.device)[:, None] - (height - 1) / 2
    x = torch.arange(width, device=motion.device) - (width - 1) / 2
    cos, sin = angle.cos(), angle.sin()
    return sin * x + cos * y + shift_y, cos * x - sin * y + shift_x, torch.stack([shift_y, shift_x])


def _scaled(motion: Tensor, factor: float) -> Tensor:
    return motion * motion.new_tensor([1, factor, factor])


def _shrunk(pictures: tuple[Tensor, Tensor, Tensor], longer: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures whose longer side has at most `longer` pixels, each the mean of those it replaces."""
    height, width = pictures[0].shape[-2:]
    factor = min(1.0, longer / max(height, width))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    fixed, moving, visible = (functional.adaptive_avg_pool2d(part[:, None], size)[:, 0] for part in pictures)
    return fixed, moving, visible


def _parabola_peak(samples: Tensor) -> Tensor:
    """Position, from the middle one, of the peak of the parabola through three samples (3, N)."""
    before, middle, after = samples
    bend = before - 2 * middle + after
    return torch.where(bend < -TINY, 0.5 * (before - after) / bend, torch.zeros_like(bend)).clamp(-0.5, 0.5)
