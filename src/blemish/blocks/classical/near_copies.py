"""Near-copies among images that look alike: candidates by embeddings, confirmed by the correlation of fine detail.

Images of one product have the same shapes, and only what is finest, the grain of a surface and its reflections, tells
one part from another. So two images are registered, and what remains of each after a blur is subtracted is compared, at
the same contrast everywhere: otherwise the edges of shapes and prints, which all parts share, would decide.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from blemish.blocks.classical.registration import coverage, register, warp
from blemish.opencv import cv2

Floats = NDArray[np.float32]
Pair = tuple[int, int]

LARGEST_ANGLE = 5.0
"""Degrees between two photographs of a part that are recognised as such."""
DETAIL = 2.0
"""Standard deviation in pixels of the blur that is subtracted."""
CONTRAST_WINDOW = 4.0
"""Standard deviation in pixels of the window in which the contrast of the detail is measured."""
NOISE = 1 / 255
"""Contrast that is added to it, so that rounding and the noise of encoders in blank places are not enlarged."""
LEAST_DETAIL = 0.01
"""Root mean square, over the pixels compared, below which images have no detail; a contrast of `NOISE` has about 0.5.
What is left of a constant image is rounding, 1e-4 and less."""
MARGIN = 6
"""Pixels at the edges that are not compared, since their blur has seen what lies outside."""
SAMPLED = 200
"""Maximum number of images of which a pair is taken to tell how alike images of different parts are."""
FARTHER, FARTHER_SHARE = 10, 4
"""The image that tells how alike images of different parts are is the tenth nearest one, or the last of the nearest
quarter if that is farther: there may be so many copies of a part."""
LEAST_CORRELATION = 0.7
"""Correlation of fine detail below which two images are different, whatever other images are like."""
DEVIATIONS = 6.0
"""Robust standard deviations by which the detail of copies must be more alike than that of other similar images."""
LEAST_DEVIATION = 0.05
"""Smallest such standard deviation, in Fisher's transform."""
NORMAL_MAD = 1.4826
ROWS_AT_ONCE = 1024


def nearest_pairs(embeddings: Floats, neighbours: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs of images to register: each with its nearest ones, and each with one that is near but not nearest.

    No similarity decides which pairs are candidates: where every image has a copy, all nearest neighbours are copies,
    and nothing tells how similar other images are.

    Args:
        embeddings: (N, D).
        neighbours: Number of nearest images of each image that are candidates, at most `FARTHER`.

    Returns:
        Candidates, and the pairs that tell how much alike similar images of these parts are; (smaller, larger) index.
    """
    count = len(embeddings)
    vectors = functional.normalize(torch.from_numpy(embeddings - embeddings.mean(0)).double(), dim=1)
    kept = min(max(FARTHER, count // FARTHER_SHARE), count - 1)
    every = -(-count // SAMPLED)
    candidates: set[Pair] = set()
    others: set[Pair] = set()
    for first in range(0, count, ROWS_AT_ONCE):
        similar = vectors[first : first + ROWS_AT_ONCE] @ vectors.T
        rows = torch.arange(len(similar))
        similar[rows, rows + first] = -2  # itself
        for row, nearest in enumerate(similar.topk(kept).indices.tolist(), first):
            candidates.update(_ordered(row, other) for other in nearest[:neighbours])
            if row % every == 0:
                others.add(_ordered(row, nearest[-1]))
    return sorted(candidates), sorted(others)


def detail_correlation(fixed: Floats, moving: Floats) -> float:
    """Correlation of the fine detail of two grey images (H, W) where both are seen, after registration.

    0 if they have none: whatever is blank is alike.
    """
    first, second, inside = _registered(fixed, moving)
    a, b = (first * inside).ravel(), (second * inside).ravel()
    energy = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / energy if energy > LEAST_DETAIL**2 * np.count_nonzero(inside) else 0.0


def detail_difference(fixed: Floats, moving: Floats) -> Floats:
    """Difference of the fine detail of two grey images (H, W), 0 where only one is seen, after registration."""
    first, second, inside = _registered(fixed, moving)
    return (first - second) * inside


def threshold(others: Iterable[float]) -> float:
    """Correlation of fine detail above which two images are near-copies.

    Args:
        others: The correlations of pairs of similar images, most of which are no copies.
    """
    z = np.arctanh(np.clip(np.fromiter(others, np.float64), -0.999, 0.999))
    median = np.median(z)
    deviation = max(LEAST_DEVIATION, NORMAL_MAD * float(np.median(np.abs(z - median))))
    return max(LEAST_CORRELATION, float(np.tanh(median + DEVIATIONS * deviation)))


def connected(pairs: Iterable[Pair]) -> list[list[int]]:
    """The groups of numbers that pairs join, each sorted, in the order of their smallest numbers."""
    group_of: dict[int, list[int]] = {}
    for pair in pairs:
        first, second = (group_of.setdefault(number, [number]) for number in pair)
        if first is not second:
            first += second
            group_of.update(dict.fromkeys(second, first))
    return sorted(map(sorted, {id(group): group for group in group_of.values()}.values()))


def _registered(fixed: Floats, moving: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """The fine detail of two images (H, W), the second one moved to the first, and the pixels that are compared."""
    first, second = (torch.from_numpy(image)[None] for image in (fixed, moving))
    motion = register(first, second, torch.ones_like(first), LARGEST_ANGLE)
    moved = warp(second[:, None], motion)[0, 0].numpy()
    inside = coverage(motion, *fixed.shape)[0].numpy()
    inside[:MARGIN] = inside[-MARGIN:] = False
    inside[:, :MARGIN] = inside[:, -MARGIN:] = False
    return _detail(fixed), _detail(moved), inside


def _detail(grey: Floats) -> Floats:
    """What a blur takes away from a grey image (H, W), at the same contrast everywhere."""
    detail = grey - _blurred(grey, DETAIL)
    contrast = np.sqrt(_blurred(detail * detail, CONTRAST_WINDOW))
    return np.asarray(detail / (contrast + np.float32(NOISE)))


def _blurred(plane: Floats, sigma: float) -> Floats:
    """`gaussian_blur` of a plane (H, W), which OpenCV does ten times as fast on the CPU."""
    size = 2 * int(4 * sigma + 0.5) + 1
    return np.asarray(
        cv2.GaussianBlur(plane, (size, size), sigma, borderType=cv2.BORDER_REPLICATE), np.float32
    )


def _ordered(first: int, second: int) -> Pair:
    return min(first, second), max(first, second)
