"""Dirty training data: how many of the defective images and of the near-copies mixed into it `suspects` finds.

    BLEMISH_DATA=FOLDER python -m benchmarks.dirty_data [ROW...]

Defective test images are mixed into the normal training images, one for ten: 10 % and a little less of the set. Copies
of all training images, shifted by 3 pixels, 3 % brighter and encoded as JPEG, are added to them; without copies, it is
counted what is reported all the same. Each ROW is one of benchmarks/dirty_data.csv, from which the tables of
docs/dirty-data.md are written; without names, the rows that are missing are measured. One thread.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from benchmarks.tables import Row, fill_pages, machine, measured_on, read_rows, versions, write_rows
from numpy.typing import NDArray

import blemish
from blemish.data.images import encode, read_image
from blemish.opencv import cv2
from blemish.types import no_progress
from blemish.workflow.near_copies import find_near_copies, look_at

TABLE = Path(__file__).with_name("dirty_data.csv")
FOLDERS = {"bottle": "mvtec_ad/bottle", "magnetic_tile": "magnetic_tile"}
SEEDS = {"bottle": (0, 1, 2), "magnetic_tile": (0,)}
MIXED_SHARE = 0.1
"""Number of defective images over that of the normal ones."""
FIRST = 0.15
SHIFT, GAIN, QUALITY = 3, 1.03, 85
"""Pixels, factor of brightness and JPEG quality of a copy."""
COLUMNS = (
    "row", "images", "mixed_in", "found", "reported", "reported_others", "seconds", "machine", "versions",
)  # fmt: skip
ROWS = [f"defects {name} {seed}" for name, seeds in SEEDS.items() for seed in seeds]
ROWS += [f"copies {name} {count}" for name in FOLDERS for count in ("none", "all")]


def main(names: list[str]) -> None:
    """Measure the rows asked for, or those missing."""
    torch.set_num_threads(1)
    rows = read_rows(TABLE)
    for name in names or [name for name in ROWS if name not in {row["row"] for row in rows}]:
        kind, data, which = name.split()
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as work:
            dataset = blemish.open_dataset(Path(os.environ["BLEMISH_DATA"]) / FOLDERS[data])
            measure = defects if kind == "defects" else copies
            counts = measure(dataset, which, Path(work))
        row = {
            "row": name, **counts, "seconds": f"{time.perf_counter() - started:.0f}",
            "machine": f"{machine()}; 1 thread", "versions": versions("blemish", "torch", "numpy"),
        }  # fmt: skip
        rows = sorted([r for r in rows if r["row"] != name] + [row], key=lambda r: ROWS.index(r["row"]))
        write_rows(TABLE, COLUMNS, rows)
        print(" | ".join(row.values()), flush=True)
    fill_pages("dirty_data", lambda kind: table(rows, str(kind)))


def defects(dataset: blemish.Dataset, seed: str, folder: Path) -> Row:
    """Mix defective images in, and look how far up in the ranking they are."""
    defective = [sample.path for sample in dataset.test if sample.label]
    count = round(MIXED_SHARE * len(dataset.train))
    chosen = np.random.default_rng(int(seed)).permutation(len(defective))[:count]
    mixed = {link(folder, f"m{n:04}", defective[n]) for n in chosen.tolist()}
    for number, sample in enumerate(dataset.train):
        link(folder, f"n{number:04}", sample.path)
    found = blemish.suspects(blemish.open_dataset(folder).train, seed=int(seed), device="cpu")
    first = found.ranking[: int(np.ceil(FIRST * len(found.ranking)))]
    return {
        "images": str(len(found.ranking)), "mixed_in": str(len(mixed)),
        "found": str(sum(one.path in mixed for one in first)),
        "reported": str(sum(one.path in mixed for one in found.suspected)),
        "reported_others": str(sum(one.path not in mixed for one in found.suspected)),
    }  # fmt: skip


def copies(dataset: blemish.Dataset, which: str, folder: Path) -> Row:
    """Add a near-copy of each image, or of none, and look at the groups."""
    originals = [sample.path for sample in dataset.train]
    added = [folder / f"{number:04}.jpg" for number in range(len(originals))] if which == "all" else []
    for original, path in zip(originals, added, strict=False):
        path.write_bytes(near_copy(read_image(original)))
    preprocess = blemish.auto_preprocess(originals)
    groups = find_near_copies(look_at([*originals, *added], preprocess, "cpu", no_progress), no_progress)
    group_of = {place: number for number, group in enumerate(groups) for place in group.places}
    numbers = range(len(originals))
    found = sum(group_of.get(n, -1) == group_of.get(n + len(originals), -2) for n in numbers)
    joined = [group_of[n] for n in numbers if n in group_of]
    return {
        "images": str(len(originals) + len(added)), "mixed_in": str(len(added)), "found": str(found),
        "reported": str(sum(len(group.places) - 1 for group in groups)),
        "reported_others": str(len(joined) - len(set(joined))),
    }  # fmt: skip


def near_copy(image: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """The image shifted to the right and brighter, as JPEG."""
    assert image.dtype == np.uint8, f"{image.dtype} pixels; this benchmark reads 8 bits"
    motion = np.array([[1, 0, SHIFT], [0, 1, 0]], np.float64)
    moved = cv2.warpAffine(image, motion, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
    brighter = np.clip(np.rint(moved * GAIN), 0, 255).astype(np.uint8)
    return encode(brighter, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, QUALITY]) or b""


def link(folder: Path, name: str, target: Path) -> Path:
    """A link to an image, under a name that does not say where it is from."""
    path = folder / f"{name}{target.suffix}"
    path.symlink_to(target.resolve())
    return path


def table(rows: list[Row], kind: str) -> str:
    """Markdown, one line per row of a kind."""
    heads = {
        "defects": "| Images of | Seed | Defective | In the first 15 % | Defective, suspected | Normal, suspected "
        "| Time |",
        "copies": "| Images of | Copies added | Found | Other near-copies reported | Time |",
    }
    lines = [heads[kind], "|---" * (heads[kind].count("|") - 1) + "|"]
    chosen = [row for row in rows if row["row"].startswith(kind)]
    for row in chosen:
        _, data, which = row["row"].split()
        cells = [f"{data}, {row['images']}", which, row["mixed_in"], row["found"], row["reported"]]
        if kind == "copies":
            cells = [f"{data}, {row['images']}", row["mixed_in"], row["found"]]
        lines.append(f"| {' | '.join([*cells, row['reported_others'], row['seconds'] + ' s'])} |")
    return "\n".join([*lines, "", *measured_on(chosen)])


if __name__ == "__main__":
    main(sys.argv[1:])
