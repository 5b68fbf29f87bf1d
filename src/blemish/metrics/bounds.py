"""Bounds of the error of metrics from binned scores, for any order within each bin.

Each function takes the arguments of the binned metric and returns a bound of |binned − exact|. It holds because
binning keeps the order between bins: only the order inside a bin is unknown.
"""

import numpy as np

from blemish.metrics.ranking import Counts, Curve


def auroc_error(counts: Counts) -> float:
    """Half the share of positive-negative pairs within one bin."""
    tied = np.dot(counts.positives.astype(np.float64), counts.negatives)
    return float(tied / 2 / (float(counts.positives.sum()) * float(counts.negatives.sum())))


def average_precision_error(counts: Counts) -> float:
    """Difference to the best order (positives of each bin first) and to the worst (negatives of each bin first).

    With t positives and f negatives at or above the bin's start and p, n inside, a positive's precision
    is at most (t + p) / (t + p + f); in the worst order the i-th has (t + i) / (t + i + f + n), concave
    in i, so the mean of the p of them is at least that of the first and the last.
    """
    tp, fp = np.cumsum(counts.positives), np.cumsum(counts.negatives)
    first = tp - counts.positives + 1
    binned = tp / (tp + fp)
    highest = tp / np.maximum(tp + fp - counts.negatives, 1)
    lowest = (first / (first + fp) + binned) / 2
    error = np.maximum(highest - binned, binned - lowest)
    return float(np.dot(counts.positives, error) / tp[-1])


def f1_max_error(counts: Counts) -> float:
    """Difference to thresholds inside a bin, which find at most all its positives and none of its negatives."""
    tp, fp = np.cumsum(counts.positives), np.cumsum(counts.negatives)
    best_inside = 2 * tp / (tp + fp - counts.negatives + tp[-1])
    return float(best_inside.max() - counts.f1_max().value)


def aupro_error(curve: Curve, limit: float) -> float:
    """Half the area of the rectangles that the bins span, since the curve never falls and so stays within them.

    The straight line halves each rectangle; of one that the limit cuts, the whole part up to the limit counts.
    """
    width = np.diff(np.minimum(curve.x, limit))
    height = np.diff(curve.y)
    share = np.where(curve.x[1:] > limit, 1.0, 0.5)
    return float(np.sum(width * height * share) / limit)
