"""AUPRO: how much of each defect region is found, at few false-positive pixels.

Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021. The sweep is exact: every distinct
score is a threshold, each 8-connected region weighs the same whatever its size, the false-positive rate
is over the normal pixels of all images, and the area up to the limit is divided by the limit.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.metrics.ranking import Curve, Floats, Integers, rising_share
from blemish.types import Map, Mask


def aupro(masks: Sequence[Mask], maps: Sequence[Map], limit: float = 0.3) -> float:
    """Area under the region-overlap curve up to a false-positive rate of `limit`, from 0 to 1.

    The images may differ in size. ValueError without a defective or without a normal pixel.
    """
    return area_under(pro_curve(masks, maps), limit)


def pro_curve(masks: Sequence[Mask], maps: Sequence[Map]) -> Curve:
    """False-positive rate (x) and mean share of a region that is found (y), at every distinct threshold."""
    for mask, anomaly_map in zip(masks, maps, strict=True):
        if mask.shape != anomaly_map.shape:
            raise ValueError(f"Mask {mask.shape} and anomaly map {anomaly_map.shape} must have one size.")
        if not np.isfinite(anomaly_map).all():
            raise ValueError("Anomaly maps must be finite, but some value is NaN or infinite.")
    if not maps:
        raise ValueError("AUPRO needs at least one image.")
    scores = np.concatenate([anomaly_map.ravel() for anomaly_map in maps])
    defective = np.concatenate([mask.ravel() for mask in masks])
    shares = [region_shares(mask) for mask in masks]
    distinct, place = np.unique(scores, return_inverse=True)
    negatives = np.bincount(place[~defective], minlength=len(distinct))
    overlap = np.bincount(place[defective], np.concatenate(shares), minlength=len(distinct))
    return overlap_curve(negatives[::-1], np.asarray(overlap[::-1], np.float64))


def region_shares(mask: Mask) -> Floats:
    """One over its region's size for each defective pixel, in reading order."""
    pixels: NDArray[np.uint8] = np.ascontiguousarray(mask).view(np.uint8)
    total, labels = cv2.connectedComponents(pixels, connectivity=8, ltype=cv2.CV_32S)
    owner = labels[mask]
    sizes = np.bincount(owner, minlength=total)
    shares: Floats = 1.0 / sizes[owner]
    return shares


def overlap_curve(negatives: Integers, overlap: Floats) -> Curve:
    """The curve from what each score holds, highest score first.

    Args:
        negatives: Normal pixels of that score.
        overlap: Sum over all regions of the share of the region that has that score.
    """
    if not negatives.any() or not overlap.any():
        missing = "defective" if negatives.any() else "normal"
        raise ValueError(f"AUPRO needs defective and normal pixels, but no pixel is {missing}.")
    return Curve(rising_share(negatives), rising_share(overlap))


def cut(curve: Curve, limit: float) -> Curve:
    """The part of the curve up to x = `limit`, ending there on the straight line between its neighbours."""
    if not 0 < limit <= 1:
        raise ValueError(f"The false-positive-rate limit must be in (0, 1], got {limit}.")
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
