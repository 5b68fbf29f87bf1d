"""Checks the numbers of normal images that a calibration is made from."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import DataError
from blemish.messages import message


def checked_columns(*given: ArrayLike) -> list[NDArray[np.float64]]:
    """Lists of numbers, (n,) each, of n normal images.

    Raises:
        DataError: There is no image, or a number is not finite.
        ValueError: The lists are not of equal length.
    """
    columns = [np.asarray(column, dtype=np.float64) for column in given]
    if any(column.ndim != 1 or column.shape != columns[0].shape for column in columns):
        raise ValueError(message("Scores, map peaks and map medians must be lists of equal length."))
    if not len(columns[0]):
        raise DataError(
            "Calibration needs at least one held-out normal image, got none. Hold out more normal images."
        )
    if not np.isfinite(columns).all():
        raise DataError(
            "A held-out normal image has a score or an anomaly map that is NaN or infinite, so no "
            "threshold can be set. Check the normal images and fit again."
        )
    return columns
