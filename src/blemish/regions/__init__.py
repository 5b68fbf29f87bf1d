"""Regions: the connected parts of an anomaly map that are anomalous, and their measures in pixels."""

from blemish.regions.find import find_regions, highest_pixel
from blemish.regions.measures import largest_extent
from blemish.regions.record import Region

__all__ = ["Region", "find_regions", "highest_pixel", "largest_extent"]
