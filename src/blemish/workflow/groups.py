"""Groups of normal images that must not be parted: images of one part, lot or run.

A model that learned from one image of a group scores the others as if it knew them, so thresholds from such scores do
not hold for the next part. Groups are given, by folder, by a pattern in the path or by a label of each image, or found:
near-copies and runs.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from blemish.data.capture_time import capture_time
from blemish.data.find import natural_order
from blemish.data.preprocess import Preprocess
from blemish.errors import BlemishWarning, DataError
from blemish.messages import message
from blemish.metrics.runs import find_runs
from blemish.types import Progress, Sample
from blemish.workflow.near_copies import find_near_copies, look_at

GroupBy = str | Mapping[Path, str]
"""NONE, FOUND, FOLDER, a regular expression, or the label of each image by its path."""
NONE, FOUND, FOLDER = "none", "found", "folder"
LABELS = "labels"
"""What a model records as the rule if labels were given."""
NEIGHBOURS = 2
"""Number of nearest images that are compared with each image to find near-copies; runs join the others."""
LARGEST_SHARE = 0.5
"""Share of the images above which a group that was found is divided, since too few others would be left."""
PARTS = 10
"""Number of parts into which it is then divided, in the order of capture or of the files."""
DISTINCT = 0.5
"""Smallest number of different times of capture, as a share of the images, by which these are ordered."""


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of some images."""

    numbers: tuple[int, ...]
    """Number of each image's group, from 0."""
    rule: str
    """NONE, FOUND, FOLDER, LABELS or the regular expression."""

    @property
    def members(self) -> list[list[int]]:
        """The images of each group, by their numbers."""
        members: list[list[int]] = [[] for _ in range(max(self.numbers) + 1)]
        for image, group in enumerate(self.numbers):
            members[group].append(image)
        return members


def group_images(
    samples: Sequence[Sample], by: GroupBy, preprocess: Preprocess, device: str, progress: Progress
) -> Groups:
    """The groups of samples.

    Args:
        samples: At least one.
        by: How they are grouped.
        preprocess: Size at which images are compared to find groups.
        device: Of torch.
        progress: Called with the number of images and pairs compared.

    Raises:
        DataError: If the pattern is no regular expression or does not match a path, an image has no label, all are of
            one group, or an image cannot be read.
    """
    if by == NONE or len(samples) < 2:
        return Groups(tuple(range(len(samples))), NONE)
    if by == FOUND:
        return _found(samples, preprocess, device, progress)
    labels = [group_label(sample.path, by) for sample in samples]
    if len(set(labels)) == 1:
        raise DataError(
            "All {count} images are of one group, {label!r}, but at least 2 groups are needed: one to learn from and "
            "one for the thresholds. Group them by something else, or by “none”.",
            count=len(labels),
            label=labels[0],
        )
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return Groups(tuple(numbers[label] for label in labels), by if isinstance(by, str) else LABELS)


def group_label(path: Path, by: GroupBy) -> str:
    """What names the group of an image, by folder, pattern or label.

    Raises:
        DataError: If the pattern is no regular expression or does not match, or the image has no label.
    """
    if isinstance(by, Mapping):
        if path not in by:
            raise DataError("{path} has no label of its group. Give one for each image.", path=path)
        return str(by[path])
    if by == FOLDER:
        return str(path.absolute().parent)
    try:
        found = re.search(by, path.absolute().as_posix())
    except re.error as error:
        raise DataError(
            "{by!r} is no rule for groups: give none, found, folder, or a regular expression ({error}).",
            by=by,
            error=error,
        ) from None
    if found is None:
        raise DataError(
            "The pattern {by!r} does not match {path}. Correct it: its first group in parentheses, or else all that "
            "it matches, names the group of an image.",
            by=by,
            path=path,
        )
    return found[1] or "" if found.re.groups else found[0]


def _found(samples: Sequence[Sample], preprocess: Preprocess, device: str, progress: Progress) -> Groups:
    """Near-copies and runs, joined where they share images."""
    order = _sequence([sample.path for sample in samples])
    seen = look_at([samples[number].path for number in order], preprocess, device, progress)
    if seen.unreadable:
        raise DataError(seen.unreadable[0].reason)
    copies = [near.places for near in find_near_copies(seen, progress, NEIGHBOURS)]
    joined = _joined([*copies, *find_runs(seen.embeddings)], len(order))
    groups: list[list[int]] = []
    for places in joined:
        step = len(places)
        if step > max(1, LARGEST_SHARE * len(order)):
            step = -(-step // PARTS)
            _warn_of_division(len(places), len(order))
        groups += [places[first : first + step] for first in range(0, len(places), step)]
    numbers = [0] * len(order)
    for group, places in enumerate(groups):
        for place in places:
            numbers[order[place]] = group
    return Groups(tuple(numbers), FOUND)


def _sequence(paths: Sequence[Path]) -> list[int]:
    """The images by their numbers in the order of capture, if all state a time and few share one; else of the files."""
    order = sorted(range(len(paths)), key=lambda number: natural_order(paths[number]))
    times: dict[int, datetime] = {}
    for number in order:
        time = capture_time(paths[number])
        if time is None:
            return order
        times[number] = time
    if len(set(times.values())) < DISTINCT * len(paths):
        return order
    return sorted(order, key=times.__getitem__)


def _warn_of_division(alike: int, count: int) -> None:
    warnings.warn(
        message(
            "{alike} of {count} images are near-copies of each other or of one run, so the thresholds hold for such "
            "images only. Add images of other parts and lots.",
            alike=alike,
            count=count,
        ),
        BlemishWarning,
        stacklevel=4,
    )


def _joined(groups: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """The groups of numbers below `count`, those that share a number as one."""
    first = [group[0] for group in groups for _ in group]
    other = [number for group in groups for number in group]
    edges = coo_array((np.ones(len(first)), (first, other)), shape=(count, count))
    labels = connected_components(edges, directed=False)[1]
    return [np.flatnonzero(labels == label).tolist() for label in range(int(labels.max()) + 1)]
