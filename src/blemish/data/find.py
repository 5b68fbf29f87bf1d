"""Which files are images: one rule for every layout and for every folder that a command searches.

An image has the suffix of one or, if its name has no suffix, begins like one. Hidden files and folders are passed
over, and so are those that systems and network drives add. Links are followed. What cannot be reached is kept among
the images, so that reading it raises the error that names it.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from blemish.data.decoding import begins_like_an_image
from blemish.data.images import IMAGE_SUFFIXES
from blemish.errors import DataError
from blemish.files import resolved

_FOREIGN_SUFFIXES = frozenset(
    {".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".pbm", ".pgm", ".ppm", ".pnm"}
)
"""Suffixes of formats that are not read. They are found, so that reading them is an error, not a missing image."""
_OF_SYSTEMS = frozenset(
    {"$recycle.bin", "#recycle", "system volume information", "lost+found", "@eadir", "__macosx"}
)
"""Folders, in lower case, that hold removed files, thumbnails and fragments."""
_LONGEST_HEAD = 12
"""Number of bytes that tell the format of an image."""


class Entries(NamedTuple):
    """The visible entries of a folder, in natural order."""

    images: list[Path]
    """Images, and entries that cannot be reached; only the folder itself if it may not be read."""
    folders: list[Path]


def natural_order(path: Path) -> tuple[list[str | int], str]:
    """Sort key of a path in which image2 comes before image10."""
    text = path.as_posix()
    words: list[str | int] = [*re.split(r"(\d+)", text)]
    words[1::2] = map(int, words[1::2])
    return words, text


def entries_of(folder: Path) -> Entries:
    """The images and subfolders of a folder; none of either if there is no such folder."""
    visible = _visible(folder)
    if visible is None:
        return Entries([folder] if is_folder(folder) else [], [])
    folders = {entry.name for entry in visible if _leads_to_folder(entry)}
    others = [folder / entry.name for entry in visible if entry.name not in folders]
    return Entries(sorted(filter(is_image, others), key=natural_order), _in_order(folder, folders))


def subfolders_of(folder: Path) -> list[Path]:
    """The visible subfolders of a folder, in natural order; files are not looked at."""
    return _in_order(folder, [entry.name for entry in _visible(folder) or () if _leads_to_folder(entry)])


def require_searchable(folder: Path) -> None:
    """Check that a folder may be read.

    Raises:
        DataError: If not.
    """
    if _visible(folder) is None:
        raise DataError(
            "{folder} cannot be searched for images. Check that you may read the folder.",
            folder=folder,
        )


def find_images(paths: Iterable[Path | str], skip: Path | None = None) -> dict[Path, Path]:
    """The images among files and in folders with their subfolders → the folder that they were found through.

    A path that does not exist, a folder without images and all that cannot be reached are kept, so that reading them
    raises the error. A folder that links lead to several times is searched once.

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


def is_image(entry: Path) -> bool:
    """Whether an entry that is no folder is an image, or cannot be reached."""
    suffix = entry.suffix.lower()
    if suffix in IMAGE_SUFFIXES or suffix in _FOREIGN_SUFFIXES:
        return True
    try:
        if suffix or not stat.S_ISREG(entry.stat().st_mode):
            return entry.is_symlink() and not entry.exists()
        with entry.open("rb") as file:
            return begins_like_an_image(file.read(_LONGEST_HEAD))
    except OSError:
        return True


def _search(folder: Path) -> Iterator[Path]:
    """The images below a folder, each once."""
    waiting, seen = [folder], set()
    while waiting:
        searched = waiting.pop()
        if (place := resolved(searched)) in seen:
            continue
        seen.add(place)
        images, folders = entries_of(searched)
        yield from images
        for entry in folders:
            if entry.is_symlink():
                waiting.insert(0, entry)  # last, so that a folder is found by its own name first
            else:
                waiting.append(entry)


def _visible(folder: Path) -> list[os.DirEntry[str]] | None:
    """The entries of a folder that are not hidden; None if it may not be read or entered."""
    try:
        if not os.access(folder, os.X_OK):
            return None
        with os.scandir(folder) as entries:
            return [
                entry
                for entry in entries
                if not entry.name.startswith(".") and entry.name.lower() not in _OF_SYSTEMS
            ]
    except OSError:
        return None


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _in_order(folder: Path, names: Iterable[str]) -> list[Path]:
    return sorted((folder / name for name in names), key=natural_order)
