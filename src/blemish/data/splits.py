"""Holds out normal images, so that thresholds never depend on test data."""

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np

from blemish.data.find import natural_order
from blemish.errors import DataError
from blemish.messages import message
from blemish.types import Sample


def hold_out(
    samples: Sequence[Sample], share: float = 0.1, seed: int = 0
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split normal samples into those to learn from and those held out.

    The split depends on the paths, the share and the seed, not on the order given. Both parts are sorted by path
    and hold at least one sample.

    Args:
        samples: Normal training samples.
        share: Share to hold out, in (0, 1); rounded to whole images.
        seed: Seed of the random choice.

    Raises:
        DataError: Fewer than two samples.
        ValueError: The share is outside (0, 1).
    """
    if not isinstance(share, Real) or not 0 < share < 1:
        raise ValueError(
            message("The share to hold out must lie between 0 and 1, got {share!r}.", share=share)
        )
    if len(samples) < 2:
        raise DataError(
            "Found {count} different normal training image(s), but at least 2 are needed: "
            "one to learn from and one held out for the threshold. Add normal images.",
            count=len(samples),
        )
    count = min(max(1, round(share * len(samples))), len(samples) - 1)
    return _without(samples, count, seed)


def draw_shots(
    samples: Sequence[Sample], shots: int, seed: int = 0
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split normal samples into a few to learn from and all others, which are held out.

    The split depends on the paths, the number and the seed. With the same seed, fewer shots are among more.

    Args:
        samples: Normal training samples.
        shots: Number of samples to learn from.
        seed: Seed of the random choice.

    Raises:
        DataError: No sample would be held out.
        ValueError: The number is below 1.
    """
    if not isinstance(shots, Integral) or shots < 1:
        raise ValueError(
            message("The number of shots must be a whole number from 1, got {shots!r}.", shots=shots)
        )
    if shots >= len(samples):
        raise DataError(
            "There are {count} different normal image(s), but {shots} shots need at least {needed}: those to learn "
            "from and one for the thresholds. Lower the number of shots, or add normal images.",
            count=len(samples),
            shots=shots,
            needed=shots + 1,
        )
    return _without(samples, len(samples) - int(shots), seed)


def _without(
    samples: Sequence[Sample], count: int, seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """The samples without `count` of them, and these; both sorted."""
    ordered = sorted(samples, key=lambda sample: natural_order(sample.path))
    chosen = set(np.random.default_rng(seed).permutation(len(ordered))[:count].tolist())
    learned = tuple(sample for index, sample in enumerate(ordered) if index not in chosen)
    return learned, tuple(ordered[index] for index in sorted(chosen))
