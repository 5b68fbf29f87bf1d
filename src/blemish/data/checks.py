"""Checks of images before training."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

import numpy as np

from blemish.data.images import read_image
from blemish.data.loading import Images
from blemish.errors import DataError, MethodError
from blemish.types import Progress, no_progress


@dataclass(frozen=True, slots=True)
class BadImage:
    """A file that could not be decoded."""

    path: Path
    reason: str
    """One sentence that names the file, the problem and what to do."""


def check_images(paths: Iterable[Path], progress: Progress = no_progress) -> list[BadImage]:
    """Decode every file and list those that cannot be decoded, in the order given."""
    listed = list(paths)
    bad = []
    with ThreadPoolExecutor(cpu_count()) as pool:
        for done, reason in enumerate(pool.map(_unreadable, listed), 1):
            if reason:
                bad.append(BadImage(listed[done - 1], reason))
            progress("checking images", done, len(listed))
    return bad


def _unreadable(path: Path) -> str:
    try:
        read_image(path)
    except DataError as error:
        return str(error)
    return ""


def require_different(images: Images) -> None:
    """Check that not all images have the same pixels; the first two usually tell.

    Raises:
        MethodError: If they have.
    """
    if len(images) < 2:
        return
    first = images[0]
    if all(np.array_equal(first, images[index], equal_nan=True) for index in range(1, len(images))):
        raise MethodError(
            "All {count} training images have the same pixels, so nothing is known about how normal parts differ. "
            "Give images of different parts.",
            count=len(images),
        )
