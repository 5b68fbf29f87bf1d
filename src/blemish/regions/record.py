"""A region of an anomaly map, with its measures in pixels of the image."""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Region:
    """A connected part of the defect mask (8-connected), in pixels of the original image.

    An image whose score is above the threshold and whose defect mask is empty has one region instead, of one pixel: the
    highest of its map.
    """

    x: int
    """Left edge of the bounding box."""
    y: int
    """Top edge of the bounding box."""
    width: int
    """Of the bounding box."""
    height: int
    """Of the bounding box."""
    area: int
    """Number of pixels."""
    length: float
    """Largest Feret diameter: the largest extent in any direction; a single pixel has 1."""
    mean_width: float
    """Area divided by length."""
    aspect: float
    """Length divided by mean width; 1.27 for a disc, larger for longer shapes."""
    centre_x: float
    """Centre of gravity."""
    centre_y: float
    peak: float
    """Largest value of the anomaly map inside."""
    peak_x: int
    peak_y: int
    mass: float
    """Sum over the pixels of how far the anomaly map is above the threshold to which regions grow."""
    contrast: float
    """Difference of the median grey value inside to that of the pixels around, as a share of the range, 0 to 1."""
    edge_distance: int
    """Pixels between the region and the nearest edge of the image; 0 if it touches the edge."""
    runs: NDArray[np.int32] = field(repr=False, compare=False)
    """(n, 3): its pixels as horizontal runs: row, first column, number of pixels; from top to bottom."""

    def to_dict(self) -> dict[str, Any]:
        """All measures, and the pixels as runs, as values that JSON can hold."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return values | {"runs": self.runs.tolist()}
