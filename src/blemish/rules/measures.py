"""The measures that rules can name, and their values for a region with their standard uncertainties."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from blemish.calibration import Calibration
from blemish.camera.scale import Scale
from blemish.regions import Region, largest_extent

GROWING = ("area_px", "area_mm2", "length_px", "length_mm", "peak", "mass")
"""Measures that never fall when a defect grows."""
SHAPES = ("width_px", "width_mm", "aspect", "contrast")
"""Measures that can fall when a defect grows."""
DISTANCES = ("edge_distance_px", "edge_distance_mm", "border_distance_px", "border_distance_mm")
"""Measures that never rise when a defect grows: to the image's edge, and to the border of the zone."""
MEASURES = (*GROWING, *SHAPES, *DISTANCES)


def in_millimetres(measure: str) -> bool:
    """Whether a measure needs the scale of the images."""
    return measure.endswith(("_mm", "_mm2"))


class Borders(Protocol):
    """Knows how far regions are from the borders of zones."""

    def border_distance(self, region: Region, zone: str, /) -> float:  # noqa: D102
        ...


@dataclass(frozen=True, slots=True)
class Measurer:
    """Measures regions in the units that rules name.

    Args:
        calibration: Of the model, for measures of the anomaly map, on a scale where a typical normal pixel has 0 and
            the pixel threshold is 1.
        scale: From pixels to millimetres; None if nothing is measured in millimetres.
    """

    calibration: Calibration
    scale: Scale | None

    def value(
        self, region: Region, measure: str, zones: Borders, touched: Iterable[str]
    ) -> tuple[float, float]:
        """A measure of a region and its standard uncertainty; measures in pixels count as exact.

        Args:
            region: The region.
            measure: One of `MEASURES`.
            zones: For the distance to a border: the smallest of those of the zones that the region touches.
            touched: The names of these zones.
        """
        name = measure.removesuffix("_px").removesuffix("_mm2").removesuffix("_mm")
        if name == "peak":
            return self.calibration.relative_peak(region.peak), 0.0
        if name == "mass":
            return region.mass / self.calibration.map_span, 0.0
        if name == "border_distance":
            pixels = min(zones.border_distance(region, zone) for zone in touched)
        else:
            pixels = float(getattr(region, "mean_width" if name == "width" else name))
        if self.scale is None or not in_millimetres(
            measure
        ):  # rules that need a scale and have none are refused
            return pixels, 0.0
        return _in_millimetres(region, name, pixels, self.scale)


def _in_millimetres(region: Region, name: str, pixels: float, scale: Scale) -> tuple[float, float]:
    """A measure in mm or mm², and its standard uncertainty.

    The uncertainty of a length is that of the places of both ends, and of the scale; that of an area lets the whole
    border move in or out.
    """
    area = area_mm2(region, scale)
    step = (area / region.area) ** 0.5  # mm per pixel, the mean of both directions
    border, relative = scale.border_px * step, scale.uncertainty
    y, x, count = region.runs.T.astype(np.float64)
    ends = np.column_stack([np.concatenate([x, x + count - 1]), np.concatenate([y, y])])
    length = largest_extent(scale.to_mm(ends)) + step
    if name == "area":
        return area, float(np.hypot(2 * (length + area / length) * border, 2 * relative * area))
    value = {"length": length, "width": area / length}.get(name, pixels * step)
    return value, float(np.hypot(2**0.5 * border, relative * value))


def area_mm2(region: Region, scale: Scale) -> float:
    """Area of a region on the part."""
    y, x, count = region.runs.T.astype(np.float64)
    return float(count @ scale.area_per_pixel(np.column_stack([x + (count - 1) / 2, y])))
