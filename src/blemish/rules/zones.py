"""Zones on the pixels of an image: in which of them a region lies, and how far from their borders."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.camera.alignment import moved_points
from blemish.errors import DataError
from blemish.opencv import cv2
from blemish.regions import Region
from blemish.rules.record import ELSEWHERE, Zone
from blemish.types import Mask


class ZoneMaps:
    """The zones of images of one size.

    Args:
        zones: As declared.
        size: (H, W) of the images.
        matrix: (2, 3) from places in the reference image, on which zones are drawn, to places in this image.

    Raises:
        DataError: If a mask has another size.
    """

    def __init__(
        self, zones: Sequence[Zone], size: tuple[int, int], matrix: NDArray[np.float64] | None = None
    ) -> None:
        self.size = size
        drawn = {zone.name: _drawn(zone, size, matrix) for zone in zones}
        parts = [drawn[zone.name] for zone in zones if zone.ignore]
        self.ignored: Mask | None = np.logical_or.reduce(parts) if parts else None
        """(H, W) what does not count; None if everything does."""
        self.masks = {zone.name: drawn[zone.name] for zone in zones if not zone.ignore}
        covered = [np.zeros(size, np.bool_), *self.masks.values()]
        self.masks[ELSEWHERE] = ~np.logical_or.reduce(covered)
        self._borders: dict[str, NDArray[np.float32]] = {}

    def of(self, regions: Sequence[Region]) -> list[dict[str, int]]:
        """The zones that each region touches, with the number of its pixels there."""
        if len(self.masks) == 1 or not regions:
            return [{ELSEWHERE: region.area} for region in regions]
        y, x, count = np.concatenate([region.runs for region in regions]).T.astype(np.int64)
        starts = np.cumsum(count) - count
        pixels = np.arange(count.sum()) + np.repeat(y * self.size[1] + x - starts, count)
        areas = np.array([region.area for region in regions], np.int64)
        first = np.cumsum(areas) - areas
        inside = {
            name: np.add.reduceat(mask.ravel()[pixels], first, dtype=np.int64).tolist()
            for name, mask in self.masks.items()
        }
        return [
            {name: counts[k] for name, counts in inside.items() if counts[k]} for k in range(len(regions))
        ]

    def border_distance(self, region: Region, zone: str) -> float:
        """Pixels between a region and the nearest pixel outside the zone; 0 if it reaches the border.

        The image's edge is no border of a zone.
        """
        if zone not in self._borders:
            mask = self.masks[zone].view(np.uint8)
            self._borders[zone] = np.asarray(
                cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32
            )
        distances = self._borders[zone]
        nearest = min(float(distances[y, x : x + count].min()) for y, x, count in region.runs.tolist())
        return max(0.0, nearest - 1)


def _drawn(zone: Zone, size: tuple[int, int], matrix: NDArray[np.float64] | None) -> Mask:
    """The pixels of a zone, (H, W)."""
    if zone.pixels is None:
        mask = np.zeros(size, np.uint8)
        places = np.asarray(zone.polygon, np.float64)
        corners = np.rint(places if matrix is None else moved_points(places, matrix)).astype(np.int32)
        return np.asarray(cv2.fillPoly(mask, [corners], 1) > 0)
    if (zone.pixels.height, zone.pixels.width) != size:
        raise DataError(
            "The mask of the zone {zone} is for images of {height} × {width} pixels (height × width), this one has "
            "{image_height} × {image_width}. Give the mask the size of the images.",
            zone=zone.name,
            height=zone.pixels.height,
            width=zone.pixels.width,
            image_height=size[0],
            image_width=size[1],
        )
    mask = zone.pixels.to_mask().view(np.uint8)
    if matrix is not None:
        mask = np.asarray(cv2.warpAffine(mask, matrix, size[::-1], flags=cv2.INTER_NEAREST), np.uint8)
    return mask > 0
