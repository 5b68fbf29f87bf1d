"""Gives the verdict on an image: its score and its map compared with the thresholds."""

from pathlib import Path

from blemish.calibration import Calibration
from blemish.inspection.result import Inspection
from blemish.regions import find_regions, highest_pixel
from blemish.types import Image, Map


def judge(
    score: float, anomaly_map: Map, image: Image, path: Path | None, calibration: Calibration
) -> Inspection:
    """The verdict on an image, whose score and map (H, W) are finite.

    An NG image always has a region: if no pixel is above the pixel threshold, the highest pixel.
    """
    seed, grow = calibration.pixel_threshold, calibration.region_threshold
    defect_mask, regions = find_regions(anomaly_map, image, seed, grow)
    is_ng = score > calibration.image_threshold
    if is_ng and not regions:
        regions = (highest_pixel(anomaly_map, image, grow),)
    return Inspection(
        path, score, "NG" if is_ng else "OK", regions, image, anomaly_map, defect_mask, calibration
    )
