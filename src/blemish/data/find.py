"""Finds image files in folders."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from blemish.data.images import has_image_name
from blemish.data.layouts import natural_order
from blemish.files import resolved


def find_images(paths: Iterable[Path | str], skip: Path | None = None) -> dict[Path, Path]:
    """The image files among files and in folders with their subfolders → the folder that they were found through.

    A path that does not exist, a dangling link, a folder without images and a subfolder that may not be read are
    kept, so that reading them raises the error.

    Args:
        paths: Files and folders; duplicates are found once.
        skip: Folder to ignore, because it holds results of an earlier run; not if one of `paths` is or lies in it.
    """
    images: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not is_folder(path):
            images.setdefault(path, path.parent)
            continue
        place, skipped = resolved(path), None if skip is None else resolved(skip)
        applies = skipped is not None and skipped not in (place, *place.parents)
        kept = [file for file in _search(path) if not applies or skipped not in resolved(file).parents]
        for file in sorted(kept, key=natural_order) or [path]:
            images.setdefault(file, path)
    return images


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; False if the system refuses to tell, where `Path.is_dir` raises an error."""
    return os.path.isdir(path)  # noqa: PTH112


def list_folder(folder: Path) -> list[Path] | None:
    """The entries of a folder; None if it may not be read or entered."""
    try:
        return [*folder.iterdir()] if os.access(folder, os.X_OK) else None
    except OSError:
        return None


def _search(folder: Path) -> Iterator[Path]:
    """The image files below a folder, each once, and the subfolders that may not be read; links are followed."""
    waiting, seen = [folder], set()
    while waiting:
        searched = waiting.pop()
        if (place := resolved(searched)) in seen:
            continue
        seen.add(place)
        entries = list_folder(searched)
        if entries is None:
            yield searched
        for entry in entries or ():
            if not is_folder(entry):
                if has_image_name(entry):
                    yield entry
            elif entry.is_symlink():
                waiting.insert(0, entry)  # last, so that a folder is found by its own name first
            else:
                waiting.append(entry)
