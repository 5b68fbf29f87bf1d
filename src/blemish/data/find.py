"""Finds image files in folders."""

from collections.abc import Iterable
from pathlib import Path

from blemish.data.images import is_image_file
from blemish.data.layouts import natural_order


def find_images(paths: Iterable[Path | str], skip: Path | None = None) -> dict[Path, Path]:
    """The image files among files and in folders with their subfolders → the folder that they were found through.

    A path that does not exist and a folder without images are kept, so that reading them raises the error.

    Args:
        paths: Files and folders; duplicates are found once.
        skip: Folder to ignore, because it holds results of an earlier run; not if it is one of `paths`.
    """
    images: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            images.setdefault(path, path.parent)
            continue
        skipped = skip.resolve() if skip is not None and skip.resolve() != path.resolve() else None
        files = (file for file in path.rglob("*") if is_image_file(file))
        kept = [file for file in files if skipped is None or skipped not in file.resolve().parents]
        for file in sorted(kept, key=natural_order) or [path]:
            images.setdefault(file, path)
    return images
