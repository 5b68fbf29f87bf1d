"""Shared by the tests of the command line: images of a tiny product, and outputs without their decimals."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.data.images import write_image

SIZE = (48, 64)


def draw_part(index: int, *, is_defective: bool = False) -> NDArray[np.uint8]:
    """A grey part with noise on it; the defect is a bright square."""
    image = np.random.default_rng(index).integers(90, 110, (*SIZE, 3)).astype(np.uint8)
    if is_defective:
        image[defect_mask()] = 250
    return image


def defect_mask() -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[20:30, 30:42] = True
    return mask


def write(path: Path, image: NDArray[np.uint8] | NDArray[np.bool_]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)
    return path


def without_decimals(text: str) -> str:
    """Numbers with a decimal point as #, so that the rest of an output can be compared exactly."""
    return re.sub(r"-?\d+\.\d+(e[+-]\d+)?", "#", text)
