"""Small images for the checks, RGB in [0, 1]: a part with a hole on a brushed plate."""

import numpy as np
from numpy.typing import NDArray

SIZE = (64, 96)
"""(H, W), not square, so that swapped sides are noticed."""
GREY = 0.45
"""Base grey value."""
DEFECT = (slice(16, 48), slice(44, 84))
"""Rows and columns of the defect of `defective_part`."""


def normal_parts(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Normal parts (count, 3, H, W) of the same shape with random light and noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    hole = ((rows - 32) ** 2 + (columns - 22) ** 2 < 12**2).astype(np.float32)
    stripes = 0.07 * np.sin(columns / 3.0) * (columns > 40)
    drawing = 0.09 - 0.27 * hole + stripes
    light = 1 + 0.05 * rng.normal(size=(count, 1, 1)).astype(np.float32)
    grain = 0.011 * rng.normal(size=(count, *SIZE)).astype(np.float32)
    return np.repeat((GREY + drawing * light + grain)[:, None], 3, axis=1).astype(np.float32)


def defective_part(strength: float) -> NDArray[np.float32]:
    """One part (3, H, W) with a bright checkered defect of a given strength; 0 is a normal part."""
    image: NDArray[np.float32] = normal_parts(1, seed=5)[0]
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    blot = 0.34 + np.where((rows // 4 + columns // 4) % 2, 0.34, -0.34)
    image[:, DEFECT[0], DEFECT[1]] += strength * blot[DEFECT].astype(np.float32)
    return image.clip(0, 1)


def padded(images: NDArray[np.float32], top: int, bottom: int, left: int, right: int) -> NDArray[np.float32]:
    """The images (…, H, W) with so many of their rows and columns as padding (NaN)."""
    height, width = images.shape[-2:]
    result = np.full_like(images, np.nan)
    inside = slice(top, height - bottom), slice(left, width - right)
    result[..., *inside] = images[..., *inside]
    return result


def textured(count: int, size: tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    """Normal images (count, 3, H, W) of any size: one drawing of blocks with noise."""
    rows, columns = np.mgrid[: size[0], : size[1]] // 8
    drawing = np.random.default_rng(0).random((rows.max() + 1, columns.max() + 1))[rows, columns]
    noise = np.random.default_rng(seed + 1).normal(scale=0.02, size=(count, *size))
    return np.repeat((0.2 + 0.5 * drawing + noise)[:, None], 3, axis=1).astype(np.float32).clip(0, 1)
