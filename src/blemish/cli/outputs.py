"""Files that a command writes beside what it prints: none of them may replace what is read."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemish.messages import message

if TYPE_CHECKING:
    from blemish.data.dataset import Dataset


def require_separate(outputs: Mapping[str, Path | None], dataset: "Dataset", model: Path | None) -> None:
    """Check that outputs replace neither each other nor what is read: images, masks and tables, or a file of the model.

    Args:
        outputs: Two options and their files.
        dataset: What is read.
        model: Folder of a model that is read.

    Raises:
        UsageError: If one does; the text names it.
    """
    from blemish.files import resolved

    places: set[Path] = set()
    for path in outputs.values():
        if path is None:
            continue
        place = resolved(path)
        in_model = model is not None and resolved(model) in (place, *place.parents)
        if place in places or in_model or _is_one_of(path, dataset.files):
            first, second = outputs
            raise click.UsageError(
                message(
                    "{path} is read, or written twice. Name another file for {first} or {second}.",
                    path=path,
                    first=first,
                    second=second,
                )
            )
        places.add(place)


def failure_of(write: Callable[[], None]) -> OSError | None:
    """The error with which a file cannot be written; it is raised once the result, which may have taken long, is shown.

    The file is written before anything is printed, which fails if nobody reads it.
    """
    try:
        write()
    except OSError as error:
        return error
    return None


def _is_one_of(path: Path, files: frozenset[Path]) -> bool:
    """Whether an existing path is one of some files, under whatever name."""
    try:
        status = path.stat()
    except OSError:
        return False
    for file in files:
        try:
            if os.path.samestat(status, file.stat()):
                return True
        except OSError:  # reading it will be an error that names it
            continue
    return False
