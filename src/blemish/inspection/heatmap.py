"""Heat maps: anomaly maps as colours over their images, on one absolute scale for all images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemish.messages import message
from blemish.opencv import cv2
from blemish.types import Image, Map, Mask

SCALE_END = 2.0
"""End of the colour scale, in relative anomaly: 0 is a typical normal pixel, 1 the pixel threshold."""

_STOPS = np.array(
    [  # relative anomaly, red, green, blue, opacity
        [0.00, 255, 240, 150, 0.00],
        [0.50, 255, 240, 150, 0.00],
        [0.75, 255, 226, 96, 0.18],
        [1.00, 255, 188, 48, 0.34],
        [1.25, 246, 124, 42, 0.40],
        [1.50, 222, 56, 52, 0.44],
        [1.75, 184, 22, 96, 0.47],
        [2.00, 132, 12, 132, 0.50],
    ]
)
"""Darkens steadily from pale yellow over red to magenta, so that it is readable in grey and to the colour-blind."""

ROWS = 256
"""Number of rows of an image that are painted together."""
LIGHT, DARK = (255, 255, 255), (40, 16, 40)
"""Colours of outlines and their rims."""

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
        raise ValueError(
            message(
                "The map must have the image's size {shape}, got {other}.",
                shape=image.shape[:2],
                other=relative_map.shape,
            )
        )
    painted = np.empty((*image.shape[:2], 3), np.uint8)
    for top in range(0, len(image), ROWS):  # the arrays between take 40 times the memory of the image
        part = slice(top, top + ROWS)
        painted[part] = _painted(image[part], relative_map[part])
    if defect_mask is not None:
        draw_outline(painted, defect_mask)
    return painted


def _painted(image: Image, relative_map: Map) -> NDArray[np.uint8]:
    pixels = (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image
    place = np.clip(np.nan_to_num(relative_map, nan=0.0) / SCALE_END, 0.0, 1.0) * (_STEPS - 1)
    index = np.rint(place).astype(np.intp)
    blended: NDArray[np.uint8] = np.rint(pixels * _REST[index][..., None] + _PAINT[index]).astype(np.uint8)
    return blended


def draw_outline(image: NDArray[np.uint8], mask: Mask) -> None:
    """Draw a line around the mask into an image (H, W, 3), white with a dark rim, which is visible on any image.

    The line is outside the mask, so that it hides none of it.
    """
    if mask.shape != image.shape[:2]:
        raise ValueError(
            message(
                "The mask must have the image's size {shape}, got {other}.",
                shape=image.shape[:2],
                other=mask.shape,
            )
        )
    thickness = max(1, round(max(mask.shape) / 800))
    distance = 2 * (thickness + 2) + 1
    around = cv2.dilate(
        mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (distance, distance))
    )
    contours, _ = cv2.findContours(around, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, DARK, thickness + 1)
    cv2.drawContours(image, contours, -1, LIGHT, thickness)


def draw_marker(image: NDArray[np.uint8], x: float, y: float, width: float, height: float) -> None:
    """Draw the corners of a box around a region, at a distance, into an image (H, W, 3)."""
    longest = max(image.shape[:2])
    thickness, smallest = max(2, longest // 500), max(30, longest // 25)
    across, down = (max(smallest, round(side + longest / 50)) for side in (width, height))
    left, top = round(x + (width - across) / 2), round(y + (height - down) / 2)
    right, bottom = left + across, top + down
    arm = min(across, down) // 4
    for colour, line in ((DARK, thickness + 2), (LIGHT, thickness)):
        for corner_x, inward_x in ((left, arm), (right, -arm)):
            for corner_y, inward_y in ((top, arm), (bottom, -arm)):
                corner = (corner_x, corner_y)
                cv2.line(image, corner, (corner_x + inward_x, corner_y), colour, line, cv2.LINE_AA)
                cv2.line(image, corner, (corner_x, corner_y + inward_y), colour, line, cv2.LINE_AA)


def colour_bar(width: int = 512, height: int = 24) -> NDArray[np.uint8]:
    """The scale from 0 to 2 over mid grey, as an image (height, width, 3) RGB."""
    grey = np.full((height, width, 3), 150, np.uint8)
    ramp = np.broadcast_to(np.linspace(0.0, SCALE_END, width, dtype=np.float32), (height, width))
    return overlay(grey, ramp)
