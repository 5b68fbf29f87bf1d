"""What the tests of the command line share: pictures of a tiny product, and outputs without their decimals."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.data.images import write_image

SIZE = (48, 64)


def draw(index: int, *, is_defective: bool = False) -> NDArray[np.uint8]:
    """A grey part with noise on it; the defect is a bright square."""
    picture = np.random.default_rng(index).integers(90, 110, (*SIZE, 3)).astype(np.uint8)
    if is_defective:
        picture[defect_mask()] = 250
    return picture


def defect_mask() -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[20:30, 30:42] = True
    return mask


def write(path: Path, picture: NDArray[np.uint8] | NDArray[np.bool_]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, picture)
    return path


def without_decimals(text: str) -> str:
    """Numbers with a decimal point as #, so that the rest of an output can be compared exactly."""
    return re.sub(r"-?\d+\.\d+(e[+-]\d+)?", "#", text)
