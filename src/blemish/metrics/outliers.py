"""Which scores of a set are too high to belong to it: robust z, its probability, and the Benjamini–Hochberg procedure.

Benjamini and Hochberg, "Controlling the False Discovery Rate", Journal of the Royal Statistical Society B, 1995.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]

NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
NORMAL_MEAN_DEVIATION = 1.2533
"""The same over its mean absolute deviation, which is used where more than half of the scores are equal."""
GUMBEL_MEDIAN, GUMBEL_MAD = 0.366513, 0.767049
"""Median and median absolute deviation of the standard Gumbel distribution."""

OUTLIER = 3.5
"""Robust z, among the other scores, from which a score is an outlier."""
ALONE = 0.5
"""Share of the distance from the median to the highest score that the next score lies below it, if it is alone."""
LOWEST_PLACE = -100.0
"""In the Gumbel distribution, where the probability is 1 and smaller places would overflow."""


def robust_z(scores: ArrayLike, reference: ArrayLike | None = None) -> Numbers:
    """Distance of each score from the median in robust standard deviations; 0 for all if all are equal.

    Args:
        scores: (N,).
        reference: Scores that median and deviation are taken from; default the scores themselves.
    """
    values = np.asarray(scores, np.float64)
    known = values if reference is None else np.asarray(reference, np.float64)
    if not known.size:
        return np.zeros_like(values)
    median = np.median(known)
    deviations = np.abs(known - median)
    scale = NORMAL_MAD * np.median(deviations) or NORMAL_MEAN_DEVIATION * deviations.mean()
    return (values - median) / scale if scale else np.zeros_like(values)


def tail_probability(z: ArrayLike) -> Numbers:
    """Probability of a robust z at least as high among maxima, which follow the Gumbel distribution.

    An image's score is the largest, or nearly the largest, of the scores of its cells. The tail of a normal
    distribution would be too short for it and make too many images suspicious.
    """
    places = GUMBEL_MEDIAN + NORMAL_MAD * GUMBEL_MAD * np.asarray(z, np.float64)
    return np.asarray(-np.expm1(-np.exp(-np.maximum(places, LOWEST_PLACE))))


def q_values(probabilities: ArrayLike) -> Numbers:
    """The smallest rate of false discoveries at which each hypothesis is rejected, by Benjamini and Hochberg.

    Of the images with a q-value of at most `rate`, an expected share of at most `rate` are there by chance.

    Args:
        probabilities: (N,) of scores at least as high if the image is normal.
    """
    values = np.asarray(probabilities, np.float64)
    order = np.argsort(values, kind="stable")
    ranked = values[order] * len(values) / np.arange(1, len(values) + 1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum.accumulate(ranked[::-1])[::-1]
    return np.minimum(adjusted, 1.0)


def stands_alone(values: Sequence[float]) -> bool:
    """Whether the last of ascending values is an outlier far above all others."""
    *others, highest = values
    if not others:
        return False
    height = highest - float(np.median(values))
    return bool(robust_z([highest], others)[0] > OUTLIER and highest - others[-1] > ALONE * height)
