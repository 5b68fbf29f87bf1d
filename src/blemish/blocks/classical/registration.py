"""Rigid registration of one image to another by OpenCV: phase correlation, then refinement by the ECC criterion.

Kuglin and Hines, "The phase correlation image alignment method", 1975. Evangelidis and Psarakis, "Parametric image
alignment using enhanced correlation coefficient maximization", PAMI 2008.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from blemish.opencv import cv2, require_version

COARSE, FINE = 64, 128
"""Longer side, in pixels, of the images on which motions are searched and refined."""
LARGEST_SHIFT = 0.25
"""Of the image's sides; a larger one is rejected as a false match."""
SEARCH_STEP = 2.5
"""Degrees between the rotations that are tried."""
REFINEMENT = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-5)
"""At most 20 iterations, until the correlation grows by less than 1e-5."""
LEAST_CORRELATION = 0.5
"""Correlation of the images under which a motion is rejected as a chance match."""
LEAST_GAIN = 0.1
"""A motion must close this share of the gap between correlation and 1, or the identity is kept."""
TINY = 1e-6

Floats = NDArray[np.float32]
Motion = NDArray[np.float64]
"""(3,): angle in radians, shift y and x in pixels."""
IDENTITY = np.zeros(3)


def warp(images: Tensor, motion: Tensor) -> Tensor:
    """Move images (N, C, H, W): result(p) = image(R(angle) · p + shift), p from the centre, edges repeated.

    Args:
        images: Without NaN.
        motion: (N, 3): angle in radians, shift y and x in pixels.
    """
    height, width = images.shape[-2:]
    y, x = _moved(motion, height, width)
    grid = torch.stack([2 * x / width, 2 * y / height], dim=-1)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def coverage(motion: Tensor, height: int, width: int) -> Tensor:
    """Pixels (N, H, W) whose value `warp` takes from inside the image, not from a repeated edge."""
    y, x = _moved(motion, height, width)
    return (y.abs() <= height / 2) & (x.abs() <= width / 2)


def register(fixed: Tensor, moving: Tensor, visible: Tensor, largest_angle: float) -> Tensor:
    """Rigid motion (N, 3) for `warp` that aligns each moving image with its fixed one.

    The identity where no motion makes the images clearly more alike, as for round or blank objects.

    Args:
        fixed: (N, H, W) grey.
        moving: (N, H, W) grey.
        visible: (N, H, W): pixels of the fixed image that count.
        largest_angle: Rotations are searched from minus to plus this, in degrees.

    Raises:
        MissingExtraError: If OpenCV is older than 4.13, the first version that takes a mask of each image.
    """
    require_version((4, 13))
    arrays = [part.detach().cpu().numpy() for part in (fixed, moving, visible.to(fixed))]
    motions = [_Pair(*images).motion(largest_angle) for images in zip(*arrays, strict=True)]
    return torch.from_numpy(np.stack(motions)).to(fixed)


@dataclass(frozen=True)
class _Pair:
    """Two grey images (H, W) to register, and the weight from 0 to 1 of each pixel of the fixed one."""

    fixed: Floats
    moving: Floats
    visible: Floats

    def motion(self, largest_angle: float) -> Motion:
        coarse, fine = self.shrunk(COARSE), self.shrunk(FINE)
        starts = IDENTITY, coarse.search(largest_angle)
        motion = max((coarse.refine(start) for start in starts), key=coarse.correlation)
        motion = fine.refine(_scaled(motion, fine.fixed.shape[1] / coarse.fixed.shape[1]))
        after, before = fine.correlation(motion), fine.correlation(IDENTITY)
        motion = _scaled(motion, self.fixed.shape[1] / fine.fixed.shape[1])
        angle, shift_y, shift_x = np.abs(motion)
        height, width = self.fixed.shape
        plausible = (
            after > LEAST_CORRELATION
            and after - before > LEAST_GAIN * (1 - before)
            and angle <= math.radians(largest_angle + SEARCH_STEP / 2)
            and shift_y <= LARGEST_SHIFT * height
            and shift_x <= LARGEST_SHIFT * width
        )
        return motion if plausible else IDENTITY

    def shrunk(self, longer: int) -> "_Pair":
        """The pair with at most `longer` pixels on the longer side, each the mean of those it replaces."""
        height, width = self.fixed.shape
        factor = min(1.0, longer / max(height, width))
        size = max(2, round(width * factor)), max(2, round(height * factor))
        parts = (self.fixed, self.moving, self.visible)
        return _Pair(*(_floats(cv2.resize(part, size, interpolation=cv2.INTER_AREA)) for part in parts))

    def search(self, largest_angle: float) -> Motion:
        """The best of a few rotations, each with the shift that phase correlation finds for it."""
        count = 1 + 2 * math.ceil(largest_angle / SEARCH_STEP)
        window = cv2.createHanningWindow(self.fixed.shape[::-1], cv2.CV_32F)
        mean = (self.fixed * self.visible).sum() / max(self.visible.sum(), 1)
        target = (self.fixed - mean) * self.visible * window
        motions = []
        for angle in np.radians(np.linspace(-largest_angle, largest_angle, count)):
            turned = _warped(self.moving, np.array([angle, 0, 0]), cv2.BORDER_REPLICATE)
            (x, y), _ = cv2.phaseCorrelate(target, (turned - turned.mean()) * window)
            cos, sin = math.cos(angle), math.sin(angle)
            motions.append(np.array([angle, sin * x + cos * y, cos * x - sin * y]))
        return max(motions, key=self.correlation)

    def refine(self, start: Motion) -> Motion:
        """The motion of largest correlation near `start`; `start` itself where the images give no hold."""
        fixed_mask = (self.visible > 0.5).astype(np.uint8)
        moving_mask = np.zeros_like(fixed_mask)
        moving_mask[1:-1, 1:-1] = 1  # pixels at the edge are interpolated with what lies outside
        try:
            _, matrix = cv2.findTransformECCWithMask(
                self.fixed, self.moving, fixed_mask, moving_mask, _matrix(start, self.fixed.shape).astype(np.float32),
                cv2.MOTION_EUCLIDEAN, REFINEMENT, 1,
            )  # fmt: skip
        except cv2.error:  # without contrast or overlap, or unlike each other
            return start
        return _motion(np.asarray(matrix, np.float64), self.fixed.shape)

    def correlation(self, motion: Motion) -> float:
        """Normalised correlation of the fixed and the moved image where both are seen; -1 if that is under a half."""
        covered = _warped(np.ones_like(self.moving), motion, cv2.BORDER_CONSTANT)
        inside = _floats(covered * self.visible > 0.5)
        count = float(inside.sum())
        if not count or count < 0.5 * self.visible.sum():
            return -1.0
        planes = self.fixed, _warped(self.moving, motion, cv2.BORDER_REPLICATE)
        target, source = (((one - np.vdot(one, inside) / count) * inside).ravel() for one in planes)
        return float(target @ source) / max(math.sqrt(target @ target) * math.sqrt(source @ source), TINY)


def _moved(motion: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Position, y and x (N, H, W) from the centre, that each pixel is moved to."""
    angle, shift_y, shift_x = motion[:, :, None, None].unbind(1)
    y = torch.arange(height, device=motion.device)[:, None] - (height - 1) / 2
    x = torch.arange(width, device=motion.device) - (width - 1) / 2
    cos, sin = angle.cos(), angle.sin()
    return sin * x + cos * y + shift_y, cos * x - sin * y + shift_x


def _warped(image: Floats, motion: Motion, border: int) -> Floats:
    """`warp` of one array (H, W)."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    matrix = _matrix(motion, image.shape)
    return _floats(cv2.warpAffine(image, matrix, image.shape[::-1], flags=flags, borderMode=border))


def _matrix(motion: Motion, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(2, 3), as OpenCV has it: for coordinates (x, y) from the centre of the first pixel."""
    angle, shift_y, shift_x = motion
    y, x = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array(
        [[cos, -sin, x - cos * x + sin * y + shift_x], [sin, cos, y - sin * x - cos * y + shift_y]]
    )


def _motion(matrix: NDArray[np.float64], shape: tuple[int, ...]) -> Motion:
    """The inverse of `_matrix`."""
    y, x = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    moved_x, moved_y = matrix @ (x, y, 1)
    return np.array([math.atan2(matrix[1, 0], matrix[0, 0]), moved_y - y, moved_x - x])


def _scaled(motion: Motion, factor: float) -> Motion:
    return motion * (1, factor, factor)


def _floats(array: NDArray[np.generic]) -> Floats:
    return np.asarray(array, np.float32)
