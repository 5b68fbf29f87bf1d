"""Finds defect regions: connected pixels above the pixel threshold."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.inspection.result import Region
from blemish.opencv import cv2
from blemish.types import Map, Mask

PIXELS_AT_ONCE = 2**20
"""Number of pixels that are looked at together, so that a large image needs little more memory than its map."""


def find_regions(anomaly_map: Map, pixel_threshold: float) -> tuple[Mask, tuple[Region, ...]]:
    """The defect mask, which are the pixels strictly above the threshold, and its 8-connected regions.

    Regions are sorted by peak, largest first, equal peaks in row-major order; a region's peak position is its first
    pixel in row-major order with that value. The time is linear in the number of pixels.
    """
    mask: Mask = np.ascontiguousarray(anomaly_map > pixel_threshold)
    total, labels, boxes, _ = cv2.connectedComponentsWithStats(
        mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    peaks, places = _find_peaks(anomaly_map.ravel(), labels.ravel(), total)
    order = 1 + np.lexsort((places[1:], -peaks[1:]))
    y, x = np.divmod(places, mask.shape[1])
    columns = np.column_stack([boxes, x, y])[order].tolist()  # cv2's box: left, top, width, height, area
    regions = tuple(
        Region(x=left, y=top, width=width, height=height, area=area, peak=peak, peak_x=peak_x, peak_y=peak_y)
        for (left, top, width, height, area, peak_x, peak_y), peak in zip(
            columns, peaks[order].tolist(), strict=True
        )
    )
    return mask, regions


def _find_peaks(
    values: NDArray[np.float32], labels: NDArray[Any], total: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The largest value of each label, and the first pixel that has it; label 0 is ignored."""
    peaks = np.full(total, -np.inf, dtype=values.dtype)
    places = np.zeros(total, dtype=np.int64)
    starts = range(0, values.size, PIXELS_AT_ONCE)
    parts = [slice(start, start + PIXELS_AT_ONCE) for start in starts]
    for part in parts:
        pixels = np.flatnonzero(labels[part])
        np.maximum.at(peaks, labels[part][pixels], values[part][pixels])
    for part in reversed(parts):
        pixels = np.flatnonzero(labels[part])
        owner = labels[part][pixels]
        highest = np.flatnonzero(values[part][pixels] == peaks[owner])[::-1]
        places[owner[highest]] = part.start + pixels[highest]  # backwards, so that the first is written last
    return peaks, places
