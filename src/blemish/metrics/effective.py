"""The number of independent images that scores of images in groups, or in a sequence, are worth.

Images of one part, lot or run resemble each other, so a hundred images of ten runs say less about the next run than a
hundred images of a hundred runs. Kish, "Survey Sampling", 1965: n scores in groups of g are worth n / (1 + (g − 1) ρ)
independent ones, where ρ is the intraclass correlation.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROUNDING = 1e-9


def effective_number(scores: ArrayLike, groups: ArrayLike) -> int:
    """Number of independent scores that scores (n,) with group numbers (n,) are worth, rounded down: 1 to n.

    Of groups of unequal sizes, g is the mean size of an image's group.
    """
    values, sizes, numbers = _grouped(scores, groups)
    mean_size = float((sizes**2).sum() / len(values))
    effect = 1 + (mean_size - 1) * intraclass_correlation(values, numbers)
    return max(1, math.floor(len(values) / effect + _ROUNDING))


def intraclass_correlation(scores: ArrayLike, groups: ArrayLike) -> float:
    """Share of the variance of scores (n,) that lies between groups (n,), from 0 to 1.

    It is the estimate of the one-way analysis of variance, on the normal scores of the ranks, so that neither the
    distribution of the scores nor an outlier decides. All in one group: 1. No group with two images: 0.
    """
    values, sizes, numbers = _grouped(scores, groups)
    count, of_groups = len(values), len(sizes)
    if of_groups == count:
        return 0.0
    if of_groups == 1:
        return 1.0
    normal = normal_scores(values)
    means = np.bincount(numbers, normal) / sizes
    between = float((sizes * (means - normal.mean()) ** 2).sum()) / (of_groups - 1)
    within = float(((normal - means[numbers]) ** 2).sum()) / (count - of_groups)
    size = (count - float((sizes**2).sum()) / count) / (of_groups - 1)
    total = between + (size - 1) * within
    return float(np.clip((between - within) / total, 0, 1)) if total > 0 else 1.0


def independent(values: NDArray[np.float64]) -> float:
    """Number of independent values that a sequence (n,) is worth, by its autocorrelation: 1 to n.

    n / (1 + 2 Σ ρ_k), with the autocorrelations up to the first that is not positive.
    """
    centred = values - values.mean()
    variance = float(centred @ centred)
    total = 0.0
    for lag in range(1, len(values)):
        correlation = float(centred[lag:] @ centred[:-lag]) / variance if variance else 0.0
        if correlation <= 0:
            break
        total += correlation
    return max(1.0, len(values) / (1 + 2 * total))


def normal_scores(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles of the normal distribution at the ranks of the values; equal values share the mean of their ranks."""
    from scipy.special import ndtri  # loads slowly, and no inspection needs it

    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # from 1
    return np.asarray(ndtri((ranks[places] - 0.5) / len(values)))


def _grouped(
    scores: ArrayLike, groups: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.intp]]:
    """The scores, the size of each group, and the number of each score's group from 0."""
    values = np.asarray(scores, np.float64)
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    return values, np.bincount(numbers), numbers
