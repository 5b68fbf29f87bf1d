"""Renders the synthetic product of `blemish demo`: photographs of a printed metal plate with and without defects."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blemish.data.images import write_image
from blemish.demo.defects import DEFECT_TYPES, add_defect
from blemish.demo.photo import Part, render_part
from blemish.types import Progress, no_progress

__all__ = ["DEFECT_TYPES", "Part", "add_defect", "render_part", "write_product"]

SMALLEST = 96
"""Smallest height and width in pixels at which the print and the smaller defects are resolved."""


def write_product(
    folder: Path,
    *,
    train: int = 60,
    test_good: int = 20,
    per_defect: int = 6,
    size: tuple[int, int] = (480, 640),
    seed: int = 0,
    progress: Progress = no_progress,
) -> Path:
    """Write one category in MVTec AD's layout and return its folder.

    Every image has its own random generator, so the first images do not depend on the number of images.

    Args:
        folder: Folder of the category; created if absent, images of the same name are replaced.
        train: Number of normal images in `train/good`.
        test_good: Number of normal images in `test/good`.
        per_defect: Number of images, each of another part, in `test/<type>` for each of `DEFECT_TYPES`, with
            their masks in `ground_truth/<type>`.
        size: Height and width of the images, at least 96 pixels each.
        seed: Seed of all images.
        progress: Called with the number of images done.
    """
    if min(size) < SMALLEST:
        raise ValueError(f"size must be at least {SMALLEST} pixels high and wide, got {size}.")
    total = train + test_good + per_defect * len(DEFECT_TYPES)
    jobs = [("train", "good", index) for index in range(train)]
    jobs += [("test", "good", index) for index in range(test_good)]
    jobs += [("test", defect_type, index) for defect_type in DEFECT_TYPES for index in range(per_defect)]
    for folder_name in {f"{split}/{kind}" for split, kind, _ in jobs}:
        (folder / folder_name).mkdir(parents=True, exist_ok=True)
    for done, (split, kind, index) in enumerate(jobs):
        progress("rendering images", done, total)
        rng = np.random.default_rng((seed, split == "test", ("good", *DEFECT_TYPES).index(kind), index))
        part = render_part(rng, size=size)
        image = part.image
        if kind != "good":
            image, mask = add_defect(part, kind, rng)
            masks = folder / "ground_truth" / kind
            masks.mkdir(parents=True, exist_ok=True)
            write_image(masks / f"{index:03d}_mask.png", mask)
        write_image(folder / split / kind / f"{index:03d}.png", image)
    progress("rendering images", total, total)
    return folder
