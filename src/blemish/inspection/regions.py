"""Finds defect regions: connected pixels above the pixel threshold."""

import numpy as np

from blemish.inspection.result import Region
from blemish.opencv import cv2
from blemish.types import Map, Mask


def find_regions(anomaly_map: Map, pixel_threshold: float) -> tuple[Mask, tuple[Region, ...]]:
    """The defect mask, which are the pixels strictly above the threshold, and its 8-connected regions.

    Regions are sorted by peak, largest first, equal peaks in row-major order; a region's peak position is its first
    pixel in row-major order with that value. The time is linear in the number of pixels.
    """
    mask: Mask = np.ascontiguousarray(anomaly_map > pixel_threshold)
    total, labels, boxes, _ = cv2.connectedComponentsWithStats(
        mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    pixels = np.flatnonzero(mask)
    owner = labels.ravel()[pixels].astype(np.intp)
    values = anomaly_map.ravel()[pixels]
    peaks = np.full(total, -np.inf, dtype=anomaly_map.dtype)
    np.maximum.at(peaks, owner, values)
    highest = np.flatnonzero(values == peaks[owner])[::-1]
    places = np.zeros(total, dtype=np.int64)
    places[owner[highest]] = pixels[
        highest
    ]  # backwards, so that the first in row-major order is written last
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
