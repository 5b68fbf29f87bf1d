"""Chooses the files of heat maps."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from blemish.errors import DataError
from blemish.files import resolved

END = "_heatmap.jpg"
"""End of the name of a heat map."""
MARK = "heat map of blemish"
"""Comment in the file of a heat map, by which it is recognised."""
MAX_NAME = 255
"""Maximum length of a file's name in bytes."""


def is_heat_map(path: Path) -> bool:
    """Whether a file is a heat map of an earlier inspection, by its name and the comment in it."""
    if not path.name.endswith(END):
        return False
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(256)
    except OSError:
        return False


def plan_heat_maps(images: Mapping[Path, Path], output: Path) -> dict[Path, Path]:
    """Choose a file for the heat map of every image, different from each other and from the images.

    Args:
        images: Image → folder that it was found through, from `find_images`; kept as its folder below `output`.
        output: Folder of all heat maps.

    Raises:
        DataError: A heat map would overwrite an image.
    """
    roots = {root: resolved(root) for root in images.values()}
    drives = {root.drive for root in roots.values()}
    shared = Path(os.path.commonpath(roots.values())) if len(drives) == 1 else None
    originals = {resolved(path) for path in images}
    taken: set[Path] = set()
    planned: dict[Path, Path] = {}
    for path, root in images.items():
        if path == root:  # a folder without images
            continue
        place = roots[root] / path.relative_to(root)
        place = place.relative_to(place.anchor if shared is None else shared)
        # a.png and a.jpg of one folder: the second one keeps its suffix in the name.
        names = (_heat_map_name(place.stem), _heat_map_name(place.name))
        files = [resolved(output) / place.with_name(name) for name in names]
        file = next((file for file in files if file not in taken), files[0])
        if file in taken or file in originals:
            raise DataError(
                "The heat map of {path} would overwrite another image. Name another folder for the heat maps.",
                path=path,
            )
        taken.add(file)
        planned[path] = file
    return planned


def _heat_map_name(name: str) -> str:
    """The name of a heat map; if it would be longer than file systems allow, a hash replaces its middle."""
    encoded = os.fsencode(name)
    if len(encoded) + len(END) > MAX_NAME:
        digest = "~" + hashlib.sha256(encoded).hexdigest()[:8]
        name = encoded[: MAX_NAME - len(END) - len(digest)].decode("utf-8", "ignore") + digest
    return name + END
