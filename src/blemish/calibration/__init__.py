"""Thresholds and the scale of scores, from scores of normal images that the scoring model did not learn from."""

from blemish.calibration.description import by_hand
from blemish.calibration.order_statistics import LARGEST_SCORE, SMALLEST_RATE, require_rate
from blemish.calibration.record import Calibration

__all__ = ["LARGEST_SCORE", "SMALLEST_RATE", "Calibration", "by_hand", "require_rate"]
