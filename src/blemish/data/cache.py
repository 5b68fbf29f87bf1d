"""Room for what would otherwise be computed again in every epoch: in memory, or else in a temporary file."""

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GIB = 2**30
LEFT_FREE = 0.5
"""Share of the disk's free space that is never taken."""


@dataclass(frozen=True, slots=True)
class CacheBudget:
    """Most bytes that may be taken of each."""

    memory: float = 2 * GIB
    disk: float = 20 * GIB

    def __post_init__(self) -> None:
        for name in ("memory", "disk"):
            size = getattr(self, name)
            if not (math.isfinite(size) and size >= 0):
                raise ValueError(f"The cache's {name} must be bytes, 0 or more, got {size}.")


def reserve(count: int, rows: Sequence[NDArray[Any]], budget: CacheBudget) -> list[NDArray[Any]] | None:
    """Arrays (count, *row.shape), one for each row given; None where the budget has no room for all of them.

    A file goes away with its arrays; what was not written reads as anything.
    """
    size = count * sum(row.nbytes for row in rows)
    if size <= budget.memory:
        return [np.empty((count, *row.shape), row.dtype) for row in rows]
    if size > min(budget.disk, LEFT_FREE * shutil.disk_usage(tempfile.gettempdir()).free):
        return None
    # The mapping keeps the file, which has no name any more, as long as it is needed itself.
    arrays: list[NDArray[Any]] = []
    for row in rows:
        with tempfile.TemporaryFile() as file:
            arrays.append(np.memmap(file, row.dtype, "w+", shape=(count, *row.shape)))
    return arrays
