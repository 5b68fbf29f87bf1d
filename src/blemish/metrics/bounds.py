"""How far a metric from binned scores can lie from the exact one, whatever the order within each bin.

Each function takes what the binned metric takes and returns a bound on |binned − exact|. It holds because
binning keeps the order between bins: only the order inside a bin is unknown.
"""

import numpy as np

from blemish.metrics.ranking import Counts, Curve


def auroc_error(counts: Counts) -> float:
    """Half the share of positive-negative pairs that fell into one bin."""
    tied = np.dot(counts.positives.astype(np.float64), counts.negatives)
    return float(tied / 2 / (float(counts.positives.sum()) * float(counts.negatives.sum())))


def average_precision_error(counts: Counts) -> float:
    """From the best order (positives of each bin first) and the worst (negatives of each bin first).

    With t positives and f negatives at or above the bin's start and p, n inside, a positive's precision
    is at most (t + p) / (t + p + f); in the worst order the i-th has (t + i) / (t + i + f + n), concave
    in i, so the mean of the p of them is at least that of the first and the last.
    """
    found, false = np.cumsum(counts.positives), np.cumsum(counts.negatives)
    first = found - counts.positives + 1
    binned = found / (found + false)
    highest = found / np.maximum(found + false - counts.negatives, 1)
    lowest = (first / (first + false) + binned) / 2
    error = np.maximum(highest - binned, binned - lowest)
    return float(np.dot(counts.positives, error) / found[-1])


def f1_max_error(counts: Counts) -> float:
    """Thresholds inside a bin are left out; such a one finds at most its positives for no negative."""
    found, false = np.cumsum(counts.positives), np.cumsum(counts.negatives)
    best_inside = 2 * found / (found + false - counts.negatives + found[-1])
    return float(best_inside.max() - counts.f1_max().value)


def aupro_error(curve: Curve, limit: float) -> float:
    """The curve never falls, so inside a bin it stays in the rectangle that the bin spans.

    The straight line halves that rectangle; where the limit cuts it, the whole rectangle up to the limit
    counts.
    """
    width = np.diff(np.minimum(curve.x, limit))
    height = np.diff(curve.y)
    share = np.where(curve.x[1:] > limit, 1.0, 0.5)
    return float(np.sum(width * height * share) / limit)
