"""Defect regions: the connected parts of what lies above the pixel threshold."""

import cv2
import numpy as np

from blemish.inspection.result import Region
from blemish.types import Map, Mask


def find_regions(anomaly_map: Map, pixel_threshold: float) -> tuple[Mask, tuple[Region, ...]]:
    """The pixels strictly above the threshold, and their 8-connected regions.

    Regions come largest peak first, equal peaks in reading order; a region's peak position is the first
    pixel in reading order that has it. The work grows with the pixels, not with pixels times regions.
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
    ]  # backwards, so the first in reading order is written last and stays
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
