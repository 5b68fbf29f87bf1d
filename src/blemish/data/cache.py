"""Temporary storage for arrays that would otherwise be computed again or not fit in memory."""

import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import DataError
from blemish.messages import message

GIB = 2**30
LEFT_FREE = 0.5
"""Share of the disk's free space that is never used."""


@dataclass(frozen=True, slots=True)
class CacheBudget:
    """Maximum number of bytes to use of memory and of the disk."""

    memory: float = 2 * GIB
    disk: float = 20 * GIB

    def __post_init__(self) -> None:
        for name in ("memory", "disk"):
            size = getattr(self, name)
            if not (math.isfinite(size) and size >= 0):
                raise ValueError(
                    message(
                        "The cache's {name} must be a number of bytes, 0 or more, got {size}.",
                        name=name,
                        size=size,
                    )
                )


class RowFile:
    """Rows of float32 in a temporary file, written in order and read by index."""

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
        weakref.finalize(self, self.file.close)
        self.width = 0

    def append(self, rows: NDArray[np.float32]) -> None:
        """Append rows (N, D); D is the same in every call.

        Raises:
            DataError: If the disk is full.
        """
        self.width = rows.shape[1]
        try:
            self.file.seek(0, os.SEEK_END)
            self.file.write(np.ascontiguousarray(rows).data)
            self.file.flush()
        except OSError as error:
            raise DataError(
                "Temporary data do not fit in {folder}: {error}. Free space there, or set TMPDIR to a "
                "folder on a larger disk.",
                folder=tempfile.gettempdir(),
                error=error,
            ) from error

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows (len(indices), D) at these indices."""
        rows = np.empty((len(indices), self.width), np.float32)
        for row, index in zip(rows, indices.tolist(), strict=True):
            self.file.seek(index * rows.strides[0])
            row[:] = np.frombuffer(self.file.read(rows.strides[0]), np.float32)
        return rows

    def read_range(self, first: int, end: int) -> NDArray[np.float32]:
        """The rows (end − first, D) from `first` to before `end`."""
        rows = np.empty((end - first, self.width), np.float32)
        self.file.seek(first * rows.strides[0])
        rows[:] = np.frombuffer(self.file.read(rows.nbytes), np.float32).reshape(rows.shape)
        return rows


def free_disk() -> float:
    """Bytes that may be used on the disk of the temporary files."""
    return LEFT_FREE * shutil.disk_usage(tempfile.gettempdir()).free


def reserve(count: int, rows: Sequence[NDArray[Any]], budget: CacheBudget) -> list[NDArray[Any]] | None:
    """Uninitialised arrays (count, *row.shape), one for each row given, in memory or else in temporary files.

    None if they exceed the budget. A file is deleted with its array.
    """
    size = count * sum(row.nbytes for row in rows)
    if size <= budget.memory:
        return [np.empty((count, *row.shape), row.dtype) for row in rows]
    if size > min(budget.disk, free_disk()):
        return None
    # The mapping keeps the unnamed file as long as the array exists.
    arrays: list[NDArray[Any]] = []
    for row in rows:
        with tempfile.TemporaryFile() as file:
            arrays.append(np.memmap(file, row.dtype, "w+", shape=(count, *row.shape)))
    return arrays
