"""Gives the verdict on an image: its score and its map compared with the thresholds."""

from pathlib import Path

import numpy as np

from blemish.calibration import Calibration
from blemish.inspection.regions import find_regions
from blemish.inspection.result import Inspection, Region
from blemish.types import Image, Map


def judge(
    score: float, anomaly_map: Map, image: Image, path: Path | None, calibration: Calibration
) -> Inspection:
    """The verdict on an image, whose score and map (H, W) are finite.

    An NG image always has a region: if no pixel is above the pixel threshold, the highest pixel.
    """
    defect_mask, regions = find_regions(anomaly_map, calibration.pixel_threshold)
    is_ng = score > calibration.image_threshold
    if is_ng and not regions:
        regions = (_highest_pixel(anomaly_map),)
    return Inspection(
        path, score, "NG" if is_ng else "OK", regions, image, anomaly_map, defect_mask, calibration
    )


def _highest_pixel(anomaly_map: Map) -> Region:
    y, x = (int(place) for place in np.unravel_index(anomaly_map.argmax(), anomaly_map.shape))
    peak = float(anomaly_map[y, x])
    return Region(x=x, y=y, width=1, height=1, area=1, peak=peak, peak_x=x, peak_y=y)
