"""What a calibration needs of the anomaly map of a normal image."""

import numpy as np

from blemish.types import Map

HIGH = 0.999
"""Share of a normal image's pixels that are below the value down to which regions grow."""


def map_statistics(anomaly_map: Map) -> tuple[float, float, float]:
    """What a calibration needs of a normal image's map (H, W): its largest value, median and quantile `HIGH`."""
    median, high = np.quantile(anomaly_map, (0.5, HIGH))
    return float(anomaly_map.max()), float(median), float(high)
