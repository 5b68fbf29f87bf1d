"""AUPRO: area under the curve of per-region overlap against the false-positive rate of pixels.

Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021. The curve is exact: every distinct
score is a threshold, each 8-connected region has the same weight whatever its size, the false-positive
rate is over the normal pixels of all images, and the area up to the limit is divided by the limit.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.messages import message
from blemish.metrics.ranking import Curve, Floats, Integers, rising_share
from blemish.opencv import cv2
from blemish.types import Map, Mask


def aupro(masks: Sequence[Mask], maps: Sequence[Map], limit: float = 0.3) -> float:
    """Area under the region-overlap curve up to a false-positive rate of `limit`, from 0 to 1.

    The images may differ in size.

    Raises:
        ValueError: If no pixel is defective or no pixel is normal.
    """
    return area_under(pro_curve(masks, maps), limit)


def pro_curve(masks: Sequence[Mask], maps: Sequence[Map]) -> Curve:
    """False-positive rate (x) and mean share of each region above the threshold (y), at every distinct score."""
    for mask, anomaly_map in zip(masks, maps, strict=True):
        if mask.shape != anomaly_map.shape:
            raise ValueError(
                message(
                    "Mask {shape} and anomaly map {other} must have the same size.",
                    shape=mask.shape,
                    other=anomaly_map.shape,
                )
            )
        if not np.isfinite(anomaly_map).all():
            raise ValueError(message("Anomaly maps must be finite, but some value is NaN or infinite."))
    if not maps:
        raise ValueError(message("AUPRO needs at least one image."))
    scores = np.concatenate([anomaly_map.ravel() for anomaly_map in maps])
    defective = np.concatenate([mask.ravel() for mask in masks])
    shares = [region_shares(mask) for mask in masks]
    distinct, inverse = np.unique(scores, return_inverse=True)
    negatives = np.bincount(inverse[~defective], minlength=len(distinct))
    overlap = np.bincount(inverse[defective], np.concatenate(shares), minlength=len(distinct))
    return overlap_curve(negatives[::-1], np.asarray(overlap[::-1], np.float64))


def region_shares(mask: Mask) -> Floats:
    """For each defective pixel, in row-major order, one over the number of pixels of its region."""
    pixels: NDArray[np.uint8] = np.ascontiguousarray(mask).view(np.uint8)
    total, labels = cv2.connectedComponents(pixels, connectivity=8, ltype=cv2.CV_32S)
    owner = labels[mask]
    sizes = np.bincount(owner, minlength=total)
    shares: Floats = 1.0 / sizes[owner]
    return shares


def overlap_curve(negatives: Integers, overlap: Floats) -> Curve:
    """The curve from counts per distinct score, highest score first.

    Args:
        negatives: Number of normal pixels with each score.
        overlap: Sum over all regions of the region's share of pixels with each score.
    """
    if not negatives.any() or not overlap.any():
        missing = "defective" if negatives.any() else "normal"
        raise ValueError(
            message("AUPRO needs defective and normal pixels, but no pixel is {missing}.", missing=missing)
        )
    return Curve(rising_share(negatives), rising_share(overlap))


def cut(curve: Curve, limit: float) -> Curve:
    """The curve up to x = `limit`; its last point is interpolated linearly."""
    if not 0 < limit <= 1:
        raise ValueError(
            message("The false-positive-rate limit must be in (0, 1], got {limit}.", limit=limit)
        )
    stop = int(np.searchsorted(curve.x, limit, side="right"))
    x, y = curve.x[:stop], curve.y[:stop]
    if x[-1] == limit:
        return Curve(x, y)
    rise = (curve.y[stop] - y[-1]) * (limit - x[-1]) / (curve.x[stop] - x[-1])
    return Curve(np.append(x, limit), np.append(y, y[-1] + rise))


def area_under(curve: Curve, limit: float) -> float:
    """Area under the curve up to `limit`, divided by `limit`."""
    part = cut(curve, limit)
    return float(np.trapezoid(part.y, part.x) / limit)
