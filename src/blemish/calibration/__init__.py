"""Thresholds and the scale of scores, from scores of normal images that the scoring model did not learn from."""

from blemish.calibration.description import by_hand
from blemish.calibration.map_statistics import map_statistics
from blemish.calibration.order_statistics import SMALLEST_RATE, require_rate
from blemish.calibration.record import LARGEST_SCORE, Calibration

__all__ = ["LARGEST_SCORE", "SMALLEST_RATE", "Calibration", "by_hand", "map_statistics", "require_rate"]
