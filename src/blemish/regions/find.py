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
    above: Mask = np.ascontiguousarray(anomaly_map > min(grow, seed))
    mask, labels = _with_seed(above, _components(above), anomaly_map, seed)
    if gap:
        size = (gap + 1, gap + 1)
        kernel = np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size))
        joined = _components(cv2.dilate(mask.view(np.uint8), kernel) > 0)
        labels = joined * mask
    return mask, measured(labels, anomaly_map, image, min(grow, seed))


def highest_pixel(anomaly_map: Map, image: Image, grow: float) -> Region:
    """The pixel with the largest value of the anomaly map (H, W), as a region of its own."""
    labels = np.zeros(anomaly_map.shape, np.int32)
    labels[np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)] = 1
    (region,) = measured(labels, anomaly_map, image, grow)
    return region


def _components(mask: Mask) -> NDArray[Any]:
    """The number of the 8-connected component of each pixel (H, W), 0 outside the mask."""
    return np.asarray(cv2.connectedComponents(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)[1])


def _with_seed(mask: Mask, labels: NDArray[Any], anomaly_map: Map, seed: float) -> tuple[Mask, NDArray[Any]]:
    """The mask and its labels without the components that have no pixel above the seed threshold."""
    kept = np.zeros(int(labels.max(initial=0)) + 1, np.bool_)
    kept[labels[anomaly_map > seed]] = True
    if kept[1:].all():
        return mask, labels
    mask = kept[labels]
    return mask, labels * mask
