"""Holds out normal images, so that thresholds never depend on test data."""

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np

from blemish.data.find import natural_order
from blemish.errors import DataError
from blemish.messages import message
from blemish.types import Sample


def hold_out(
    samples: Sequence[Sample], share: float = 0.1, seed: int = 0, groups: Sequence[int] | None = None
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split normal samples into those to learn from and those held out; groups are not parted.

    The split depends on the paths, the groups, the share and the seed, not on the order given. Both parts are sorted by
    path and hold at least one sample.

    Args:
        samples: Normal training samples.
        share: Share to hold out, in (0, 1); rounded to whole images. As many whole groups are held out as it has room
            for, at least the smallest one.
        seed: Seed of the random choice.
        groups: Number of each sample's group, of which there are at least two; default every sample by itself.

    Raises:
        DataError: Fewer than two samples.
        ValueError: The share is outside (0, 1).
    """
    if not isinstance(share, Real) or not 0 < share < 1:
        raise ValueError(
            message("The share to hold out must lie between 0 and 1, got {share!r}.", share=share)
        )
    require_two(samples)
    count = min(max(1, round(share * len(samples))), len(samples) - 1)
    units = _units(samples, range(len(samples)) if groups is None else groups)
    order = [units[place] for place in np.random.default_rng(seed).permutation(len(units)).tolist()]
    chosen: list[int] = []
    for unit in order:
        if len(chosen) + len(unit) <= count:
            chosen += unit
    return _parted(samples, chosen or min(order, key=len))


def draw_shots(
    samples: Sequence[Sample], shots: int, seed: int = 0, groups: Sequence[int] | None = None
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split normal samples into a few to learn from and those of other groups, which are held out.

    The split depends on the paths, the number and the seed. With the same seed, fewer shots are among more.

    Args:
        samples: Normal training samples.
        shots: Number of samples to learn from.
        seed: Seed of the random choice.
        groups: Number of each sample's group; default every sample by itself.

    Raises:
        DataError: No sample would be held out.
        ValueError: The number is below 1.
    """
    if not isinstance(shots, Integral) or shots < 1:
        raise ValueError(
            message("The number of shots must be a whole number from 1, got {shots!r}.", shots=shots)
        )
    numbers = range(len(samples)) if groups is None else groups
    ordered = _ordered(samples)
    drawn = np.random.default_rng(seed).permutation(len(ordered))[
        len(ordered) - min(int(shots), len(ordered)) :
    ]
    learned = {ordered[place] for place in drawn.tolist()}
    known = {numbers[index] for index in learned}
    held_out = [index for index in ordered if numbers[index] not in known]
    if not held_out:
        raise DataError(
            "--shots {shots} (shots={shots}) needs normal images of other groups for the thresholds, beside those to "
            "learn from, but there are {count} different ones in {groups} groups. Lower --shots (shots=), or add "
            "normal images.",
            count=len(samples),
            groups=len(set(numbers)),
            shots=shots,
        )
    return tuple(samples[index] for index in ordered if index in learned), tuple(samples[i] for i in held_out)


def require_two(samples: Sequence[Sample]) -> None:
    """Check that there are enough samples to learn from one and score another.

    Raises:
        DataError: There are fewer than two.
    """
    if len(samples) < 2:
        raise DataError(
            "Found {count} different normal training image(s), but at least 2 are needed: "
            "one to learn from and another for the threshold. Add normal images.",
            count=len(samples),
        )


def _ordered(samples: Sequence[Sample]) -> list[int]:
    """The numbers of the samples, by path."""
    return sorted(range(len(samples)), key=lambda index: natural_order(samples[index].path))


def _units(samples: Sequence[Sample], groups: Sequence[int]) -> list[list[int]]:
    """The numbers of the samples of each group, groups in the order of their first paths."""
    units: dict[int, list[int]] = {}
    for index in _ordered(samples):
        units.setdefault(groups[index], []).append(index)
    return list(units.values())


def _parted(
    samples: Sequence[Sample], chosen: Sequence[int]
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """The samples without the chosen ones, and these; both sorted."""
    held_out = set(chosen)
    ordered = _ordered(samples)
    return (
        tuple(samples[index] for index in ordered if index not in held_out),
        tuple(samples[index] for index in ordered if index in held_out),
    )
