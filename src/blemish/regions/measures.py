"""Measures regions by their horizontal runs; all regions at once, in time linear in their pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.opencv import cv2
from blemish.regions.record import Region
from blemish.types import Image

DIRECTIONS = 90
"""Number of directions in which extents are measured; the largest is at most 0.02 % too small."""
GREYS = 2**16
"""Number of grey values."""
AROUND = 5
"""Width in pixels of the border around a region with which its grey values are compared."""

Column = NDArray[Any]


def measured(
    pixels: Column, owner: Column, above: Column, values: Column, image: Image
) -> tuple[Region, ...]:
    """The regions of an image (H, W, 3), the largest peak first.

    Args:
        pixels: (n,) the regions' pixels, row-major and ascending.
        owner: (n,) number of each pixel's region.
        above: (n,) how far the anomaly map is above the threshold to which regions grow.
        values: (n,) of the anomaly map.
        image: For the contrast.
    """
    if not len(pixels):
        return ()
    size = image.shape[:2]
    present = np.zeros(int(owner.max()) + 1, np.int32)
    present[owner] = 1
    owner = (np.cumsum(present) - 1)[owner]  # consecutive numbers from 0
    starts = _run_starts(pixels, owner, size[1])
    order = np.argsort(owner[starts], kind="stable")
    y, x = np.divmod(pixels[starts], size[1])
    runs = np.column_stack([y, x, np.diff(starts, append=len(pixels))])[order].astype(np.int32)
    numbers = owner[starts][order]
    first = np.flatnonzero(np.diff(numbers, prepend=-1))  # of each region's runs
    peak, place = _peaks(values, pixels, starts, order, first)
    excess = np.maximum(above.astype(np.float64), 0)
    columns = _geometry(runs, first, size) | {
        "peak": peak,
        "peak_x": place % size[1],
        "peak_y": place // size[1],
        "mass": np.add.reduceat(np.add.reduceat(excess, starts)[order], first),
        "contrast": _contrasts(pixels, owner, len(first), image),
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    regions = [
        Region(**dict(zip(columns, row, strict=True)), runs=own)
        for row, own in zip(rows, np.split(runs, first[1:]), strict=True)
    ]
    return tuple(regions[k] for k in np.lexsort((place, -peak)))


def _run_starts(pixels: Column, owner: Column, width: int) -> Column:
    """The places in `pixels`, flat and ascending, at which a horizontal run of one region begins."""
    is_start = np.empty(len(pixels), np.bool_)
    is_start[0] = True
    is_start[1:] = (np.diff(pixels) != 1) | (np.diff(owner) != 0) | (pixels[1:] % width == 0)
    return np.flatnonzero(is_start)


def _peaks(
    values: Column, pixels: Column, starts: Column, order: Column, first: Column
) -> tuple[Column, Column]:
    """The largest value of each region, and the first pixel in row-major order that has it."""
    of_runs = np.maximum.reduceat(values, starts)[order]
    peak = np.maximum.reduceat(of_runs, first)
    counts = np.diff(first, append=len(of_runs))
    pixel_of_run = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(values)))
    highest = np.empty(len(starts), of_runs.dtype)
    highest[order] = np.repeat(peak, counts)
    has_peak = np.where(values == highest[pixel_of_run], pixels, np.iinfo(pixels.dtype).max)
    return peak, np.minimum.reduceat(np.minimum.reduceat(has_peak, starts)[order], first)


def _geometry(runs: Column, first: Column, size: tuple[int, ...]) -> dict[str, Column]:
    """The measures of each region that follow from its pixels, in an image of `size` (H, W)."""
    y, x, count = (column.astype(np.int64) for column in runs.T)
    left, top = np.minimum.reduceat(x, first), np.minimum.reduceat(y, first)
    right, bottom = np.maximum.reduceat(x + count, first), np.maximum.reduceat(y, first) + 1
    area, length = np.add.reduceat(count, first), _lengths(runs, first)
    sides = [left, top, size[1] - right, size[0] - bottom]
    return {
        "x": left,
        "y": top,
        "width": right - left,
        "height": bottom - top,
        "area": area,
        "length": length,
        "mean_width": area / length,
        "aspect": length**2 / area,
        "centre_x": np.add.reduceat(count * (x + (count - 1) / 2), first) / area,
        "centre_y": np.add.reduceat(count * y, first) / area,
        "edge_distance": np.minimum.reduce(sides),
    }


def _lengths(runs: Column, first: Column) -> Column:
    """The largest extent of each region in any direction: between pixel centres, and 1 for their borders.

    It is within 1 pixel of that of the shape that the pixels show, within 1.3 between sharp corners.
    """
    y, x, count = (column.astype(np.float64) for column in runs.T)
    end = x + count - 1
    longest = np.zeros(len(first))
    for angle in np.arange(DIRECTIONS) * (np.pi / DIRECTIONS):
        across, down = np.cos(angle), np.sin(angle) * y
        left, right = across * x + down, across * end + down
        extent = np.maximum.reduceat(np.maximum(left, right), first)
        longest = np.maximum(longest, extent - np.minimum.reduceat(np.minimum(left, right), first))
    return longest + 1


def largest_extent(points: NDArray[np.float64]) -> float:
    """The largest extent of points (n, 2) in any direction."""
    angles = np.arange(DIRECTIONS) * (np.pi / DIRECTIONS)
    along = points @ np.stack([np.cos(angles), np.sin(angles)])
    return float(np.ptp(along, axis=0).max())


def _contrasts(pixels: Column, owner: Column, count: int, image: Image) -> Column:
    """|median grey value inside - median around| of each of `count` regions, as a share of the range.

    Around are the pixels of no region that are up to `AROUND` pixels away; a region that fills the image has 0. Of
    regions that are closer to each other, a pixel between them counts for the one with the larger number.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).ravel()
    kind = np.uint16 if count < 2**16 - 1 else np.float32  # both are fast, and exact
    labels = np.zeros(image.shape[:2], kind)
    labels.ravel()[pixels] = owner + 1
    around = cv2.dilate(labels, np.ones((2 * AROUND + 1, 2 * AROUND + 1), np.uint8)).ravel()
    around[pixels] = 0
    near = np.flatnonzero(around > 0)
    inside = _medians(owner, grey[pixels], count)
    outside = _medians(around[near].astype(np.int64) - 1, grey[near], count)
    difference = np.abs(inside - outside) / np.iinfo(image.dtype).max
    return np.asarray(np.nan_to_num(difference, nan=0.0))


def _medians(owner: Column, grey: Column, count: int) -> Column:
    """The lower median of the grey values of the pixels of each owner; NaN for one that owns no pixel."""
    if not len(owner):
        return np.full(count, np.nan)
    kind = np.uint32 if count < 2**16 - 1 else np.int64  # the smaller is sorted in half the time
    keys = np.sort((owner.astype(np.int64) * GREYS + grey).astype(kind))
    ends = np.searchsorted(keys, (np.arange(count + 1) * GREYS).astype(kind))
    begin, end = ends[:-1], ends[1:]
    middle = keys[np.minimum((begin + end - 1) // 2, len(keys) - 1)] % GREYS
    return np.asarray(np.where(end > begin, middle, np.nan))
