"""A product that blemish makes itself: photographs of a machined, printed plate, good and defective."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blemish.data.images import write_image
from blemish.demo.defects import DEFECT_TYPES, add_defect
from blemish.demo.photo import Part, render_part
from blemish.types import Progress, no_progress

__all__ = ["DEFECT_TYPES", "Part", "add_defect", "render_part", "write_product"]

SMALLEST = 96
"""Pixels: below this height or width the print and the smaller defects dissolve."""


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
    """Writes one category in MVTec AD's layout and returns its folder.

    Every picture has a random stream of its own, so the first pictures stay the same when more are asked for.

    Args:
        folder: The category's folder; made if absent, pictures of the same name are replaced.
        train: Good pictures in `train/good`.
        test_good: Good pictures in `test/good`.
        per_defect: Pictures, each of another part, in `test/<type>` for every one of `DEFECT_TYPES`,
            with their masks in `ground_truth/<type>`.
        size: Height and width of the pictures, at least 96 pixels each.
        seed: Decides everything.
        progress: Told of every picture.
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
        progress("making pictures", done, total)
        rng = np.random.default_rng((seed, split == "test", ("good", *DEFECT_TYPES).index(kind), index))
        part = render_part(rng, size=size)
        image = part.image
        if kind != "good":
            image, mask = add_defect(part, kind, rng)
            masks = folder / "ground_truth" / kind
            masks.mkdir(parents=True, exist_ok=True)
            write_image(masks / f"{index:03d}_mask.png", mask)
        write_image(folder / split / kind / f"{index:03d}.png", image)
    progress("making pictures", total, total)
    return folder
