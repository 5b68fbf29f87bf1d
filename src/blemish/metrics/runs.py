"""Runs in a sequence of images: stretches in which neighbours are more alike than others, as of one lot or shift."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]

FEWEST = 10
"""Smallest number of images in which runs are sought."""
PERMUTATIONS = 199
LEVEL = 0.01
"""Probability that unordered images count as ordered."""
CLEAR = 0.9
"""Neighbours count as more alike if their median distance is below this share of that of random pairs."""
FADED = 0.8
"""Images are taken to be independent at the first distance in the sequence that brings back this share of it."""
BREAK = 0.5
"""Contrast between the images before and after a place, as a share of the same range, from which a run ends there."""


def find_runs(embeddings: NDArray[np.float32], seed: int = 0) -> list[list[int]]:
    """The runs, as lists of consecutive numbers; every image by itself if the order says nothing.

    A permutation test of the median distance of neighbours decides whether there are runs. They end where the images
    before and after differ more from each other than among themselves. What drifts without such a break is divided
    into parts that are as long as the dependence reaches.

    Args:
        embeddings: (N, D), in the order of the files.
        seed: Of the permutations.
    """
    count = len(embeddings)
    singles = [[number] for number in range(count)]
    if count < FEWEST:
        return singles
    vectors = _directions(embeddings.astype(np.float64))
    near, random = float(np.median(_distances(vectors))), _random_medians(vectors, seed)
    typical = float(np.median(random))
    if (1 + int((random <= near).sum())) / (1 + PERMUTATIONS) > LEVEL or near > CLEAR * typical:
        return singles
    reach = _reach(vectors, near, typical)
    runs: list[list[int]] = []
    for first, end in pairwise([0, *_breaks(vectors, max(2, reach // 2), BREAK * (typical - near)), count]):
        runs += [
            part.tolist() for part in np.array_split(np.arange(first, end), max(1, (end - first) // reach))
        ]
    return runs


def _directions(embeddings: Vectors) -> Vectors:
    """Unit vectors from the mean; 0 for what equals it."""
    centred = embeddings - embeddings.mean(0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0))


def _distances(vectors: Vectors, lag: int = 1) -> Vectors:
    return np.asarray(np.linalg.norm(vectors[lag:] - vectors[:-lag], axis=1))


def _random_medians(vectors: Vectors, seed: int) -> Vectors:
    """The median distance of neighbours in each of several random orders."""
    rng = np.random.default_rng(seed)
    return np.array([np.median(_distances(rng.permutation(vectors))) for _ in range(PERMUTATIONS)])


def _reach(vectors: Vectors, near: float, typical: float) -> int:
    """Smallest distance in the sequence at which images are about as different as random pairs."""
    least = near + FADED * (typical - near)
    lags = range(1, len(vectors) // 2)
    return next((lag for lag in lags if np.median(_distances(vectors, lag)) > least), len(vectors) // 2)


def _breaks(vectors: Vectors, width: int, least: float) -> list[int]:
    """The numbers at which a run begins: where the contrast of `width` images to each side is high, and highest."""
    places = np.arange(2, len(vectors) - 1)
    contrast = np.array([_contrast(vectors[max(0, i - width) : i], vectors[i : i + width]) for i in places])
    highest = [contrast[max(0, k - width) : k + width + 1].max() for k in range(len(contrast))]
    return [
        int(place)
        for place, value, peak in zip(places, contrast, highest, strict=True)
        if value == peak > least
    ]


def _contrast(before: Vectors, after: Vectors) -> float:
    """Mean distance between two lists of at least two vectors, less the mean distance within them."""

    def mean(one: Vectors, other: Vectors, same: int) -> float:
        lengths = np.linalg.norm(one[:, None] - other[None], axis=2)
        return float(lengths.sum() / (lengths.size - same))

    within = (mean(before, before, len(before)) + mean(after, after, len(after))) / 2
    return mean(before, after, 0) - within
