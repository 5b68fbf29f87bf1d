"""Heat maps: anomaly maps as colours over their images, on one absolute scale for all images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemish.opencv import cv2
from blemish.types import Image, Map, Mask

SCALE_END = 2.0
"""End of the colour scale, in relative anomaly: 0 is a typical normal pixel, 1 the pixel threshold."""

_STOPS = np.array(
    [  # relative anomaly, red, green, blue, opacity
        [0.00, 255, 240, 150, 0.00],
        [0.50, 255, 240, 150, 0.00],
        [0.75, 255, 226, 96, 0.22],
        [1.00, 255, 188, 48, 0.52],
        [1.25, 246, 124, 42, 0.62],
        [1.50, 222, 56, 52, 0.70],
        [1.75, 184, 22, 96, 0.76],
        [2.00, 132, 12, 132, 0.80],
    ]
)
"""Darkens steadily from pale yellow over red to magenta, so that it is readable in grey and to the colour-blind."""

_STEPS = 512
_GRID = np.linspace(0.0, SCALE_END, _STEPS)
_COLORS = np.stack([np.interp(_GRID, _STOPS[:, 0], _STOPS[:, 1 + channel]) for channel in range(3)], 1)
_OPACITIES = np.interp(_GRID, _STOPS[:, 0], _STOPS[:, 4])
_PAINT = (_COLORS * _OPACITIES[:, None]).astype(np.float32)
_REST = (1.0 - _OPACITIES).astype(np.float32)


def overlay(image: Image, relative_map: Map, *, defect_mask: Mask | None = None) -> NDArray[np.uint8]:
    """The image under the colours of its anomaly map, (H, W, 3) RGB uint8.

    The scale is absolute: the same relative anomaly has the same colour on every image. Values up to 0.5 are
    transparent; all values from 2 have the same colour.

    Args:
        image: (H, W, 3).
        relative_map: (H, W): 0 typical of normal pixels, 1 the pixel threshold; NaN (no score) is transparent.
        defect_mask: (H, W): outlined, if given.
    """
    if relative_map.shape != image.shape[:2]:
        raise ValueError(f"The map must have the image's size {image.shape[:2]}, got {relative_map.shape}.")
    pixels = (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image
    place = np.clip(np.nan_to_num(relative_map, nan=0.0) / SCALE_END, 0.0, 1.0) * (_STEPS - 1)
    index = np.rint(place).astype(np.intp)
    blended = pixels * _REST[index][..., None] + _PAINT[index]
    painted: NDArray[np.uint8] = np.rint(blended).astype(np.uint8)
    if defect_mask is not None:
        draw_outline(painted, defect_mask)
    return painted


def draw_outline(image: NDArray[np.uint8], mask: Mask) -> None:
    """Draw the mask's outline into an image (H, W, 3), in white with a dark rim, which is visible on any image."""
    if mask.shape != image.shape[:2]:
        raise ValueError(f"The mask must have the image's size {image.shape[:2]}, got {mask.shape}.")
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(max(mask.shape) / 500))
    cv2.drawContours(image, contours, -1, (40, 16, 40), thickness + 2)
    cv2.drawContours(image, contours, -1, (255, 255, 255), thickness)


def colour_bar(width: int = 512, height: int = 24) -> NDArray[np.uint8]:
    """The scale from 0 to 2 over mid grey, as an image (height, width, 3) RGB."""
    grey = np.full((height, width, 3), 150, np.uint8)
    ramp = np.broadcast_to(np.linspace(0.0, SCALE_END, width, dtype=np.float32), (height, width))
    return overlay(grey, ramp)
