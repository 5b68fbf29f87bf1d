"""The error about a path whose layout is not known: what is there instead, and what to do."""

from collections.abc import Iterable
from pathlib import Path

from blemish.data.find import is_image, require_searchable, subfolders_of
from blemish.errors import DataError

NAMED = 8
"""Maximum number of entries of a folder that are named."""


def unknown_layout(path: Path, expected: Iterable[str]) -> DataError:
    """The error about an existing path.

    Args:
        path: A file, or a folder.
        expected: What each layout looks like.

    Raises:
        DataError: If the folder or one in it may not be read.
    """
    if not path.is_dir() and is_image(path):
        return DataError("{path} is one image. Name its folder.", path=path)
    names = [path.name]
    if path.is_dir():
        for folder in (path, *subfolders_of(path)):
            require_searchable(folder)
        names = sorted(entry.name for entry in path.iterdir())
    if not names:
        return DataError(
            "{path} holds no image, nor anything else. Put images into it, or name another folder.", path=path
        )
    return DataError(
        "{path} has no known layout. Found: {found}. Expected one of: {expected}. "
        "Arrange the images like one of these, or name the layout with --layout.",
        path=path,
        found=", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else ""),
        expected="; ".join(expected),
    )
