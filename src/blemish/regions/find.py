"""Finds regions by hysteresis, and measures them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.opencv import cv2
from blemish.regions.measures import measured
from blemish.regions.record import Region
from blemish.types import Image, Map, Mask


def find_regions(
    anomaly_map: Map, image: Image, seed: float, grow: float, gap: int = 0
) -> tuple[Mask, tuple[Region, ...]]:
    """The defect mask and its regions: connected pixels above `grow` of which at least one is above `seed`.

    This is thresholding with hysteresis (Canny, "A computational approach to edge detection", PAMI 1986): the extent of
    a defect does not depend on how high the threshold is at which it is found. The time is linear in the number of
    pixels.

    Args:
        anomaly_map: (H, W).
        image: (H, W, 3), for the contrast.
        seed: A region has a pixel strictly above it.
        grow: All pixels of a region are strictly above it; at most `seed`.
        gap: Regions with at most so many pixels between them are one.

    Returns:
        (H, W) the pixels of all regions, and the regions, the largest peak first, equal peaks in row-major order.
    """
    grow = min(grow, seed)
    mask: Mask = np.ascontiguousarray(anomaly_map > grow)
    pixels = np.flatnonzero(mask)
    values = np.ascontiguousarray(anomaly_map).ravel()[pixels]
    owner = _components(mask).ravel()[pixels]
    seeded = np.zeros(int(owner.max(initial=0)) + 1, np.bool_)
    seeded[owner[values > seed]] = True
    kept = seeded[owner]
    if not kept.all():
        mask.ravel()[pixels[~kept]] = False
        pixels, values, owner = pixels[kept], values[kept], owner[kept]
    if gap and len(pixels):
        kernel = np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (gap + 1, gap + 1)))
        owner = _components(cv2.dilate(mask.view(np.uint8), kernel) > 0).ravel()[pixels]
    return mask, measured(pixels, owner, values - grow, values, image)


def highest_pixel(anomaly_map: Map, image: Image, grow: float) -> Region:
    """The pixel with the largest value of the anomaly map (H, W), as a region of its own."""
    pixels = np.array([anomaly_map.argmax()])
    values = anomaly_map.ravel()[pixels]
    (region,) = measured(pixels, np.ones(1, np.int32), values - grow, values, image)
    return region


def _components(mask: Mask) -> NDArray[Any]:
    """The number of the 8-connected component of each pixel (H, W), 0 outside the mask."""
    return np.asarray(cv2.connectedComponents(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)[1])
