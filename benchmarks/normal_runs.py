"""How thresholds hold on further good parts: images left out by groups, or held out at random.

    python -m benchmarks.normal_runs [DATA...]

DATA are names of `SETS`, of which `runs` is drawn: the product of `blemish demo` in runs of near-copies under slowly
drifting pose and light, whose good test images are of other runs. The others are data sets in $BLEMISH_DATA. PatchCore
is fitted with the thresholds of each of `WAYS`. The rows are kept in benchmarks/normal_runs.csv, from which the tables
of docs/calibration.md are written; without names, the rows that are missing are measured.
"""

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.tables import Row, fill_pages, machine, measured_on, read_rows, versions, write_rows

import blemish
from blemish.data.images import write_image
from blemish.demo import DEFECT_TYPES, add_defect, render_part
from blemish.demo.runs import render_run

TABLE = Path(__file__).with_name("normal_runs.csv")
SETS = {"runs": None, "bottle": "mvtec_ad/bottle", "magnetic_tile": "magnetic_tile"}
"""Name → folder in $BLEMISH_DATA; None: drawn."""
WAYS: Mapping[str, Mapping[str, Any]] = {
    "at random": {"calibrate": "hold-out", "group_by": "none"},
    "by groups": {},
}
SIZE = (240, 320)
LEARNED, TESTED = (9, 10), (20, 4)
"""Numbers of runs, and of photographs of each."""
DEFECTIVE = 4
"""Number of parts with each type of defect."""
RATES = (0.01, 0.05)
THREADS = 2
COLUMNS = (
    "data", "way", "images", "groups", "effective", "image_auroc", "threshold",
    *(f"false_alarms_{rate:g}" for rate in RATES), "expected", "warned", "fit_seconds", "machine", "versions",
)  # fmt: skip


def main(names: list[str]) -> None:
    """Measure the data sets asked for, or those missing."""
    torch.set_num_threads(THREADS)
    rows = read_rows(TABLE)
    wanted = names or [name for name in SETS if name not in {row["data"] for row in rows}]
    with tempfile.TemporaryDirectory() as work:
        for name in wanted:
            folder = (
                drawn(Path(work))
                if SETS[name] is None
                else Path(os.environ["BLEMISH_DATA"]) / str(SETS[name])
            )
            new = [measure(name, folder, way) for way in WAYS]
            rows = [row for row in rows if row["data"] != name] + new
            rows.sort(key=lambda row: list(SETS).index(row["data"]))
            write_rows(TABLE, COLUMNS, rows)
            print(*(" | ".join(row.values()) for row in new), sep="\n", flush=True)
    fill_pages("normal_runs", lambda _: table(rows))


def drawn(folder: Path) -> Path:
    """Write the product of runs in MVTec AD's layout."""
    for split, (runs, images) in (("train", LEARNED), ("test", TESTED)):
        for run in range(runs):
            parts = render_run(np.random.default_rng((split == "test", run)), images, size=SIZE)
            for number, part in enumerate(parts, run * images):
                save(folder / split / "good" / f"{number:03d}.png", part.image)
    for kind, defect_type in enumerate(DEFECT_TYPES):
        for number in range(DEFECTIVE):
            rng = np.random.default_rng((2, kind, number))
            image, mask = add_defect(render_part(rng, size=SIZE), defect_type, rng)
            save(folder / "test" / defect_type / f"{number:03d}.png", image)
            save(folder / "ground_truth" / defect_type / f"{number:03d}_mask.png", mask)
    return folder


def save(path: Path, image: Any) -> None:
    """Write an image, and its folder before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)


def measure(name: str, folder: Path, way: str) -> Row:
    """One row."""
    data = blemish.open_dataset(folder)
    model = blemish.fit(
        "patchcore",
        data.train,
        preprocess=blemish.Preprocess(size=SIZE if name == "runs" else (256, 256)),
        **WAYS[way],
    )
    calibration = model.calibration
    found = blemish.evaluate(model, data.test, allow_blank_masks=True)  # of magnetic_tile, 4 of 392
    labels, scores = np.asarray(found.image_labels), np.asarray(found.image_scores)
    thresholds = {rate: calibration.with_false_alarm_rate(rate).image_threshold for rate in RATES}
    return {
        "data": name, "way": way, "images": str(calibration.images), "groups": str(len(set(calibration.groups))),
        "effective": str(calibration.effective_images), "image_auroc": f"{found.image_auroc:.4f}",
        "threshold": f"{calibration.image_threshold:.3f}",
        **{f"false_alarms_{rate:g}": f"{(scores[labels == 0] > at).mean():.4f}" for rate, at in thresholds.items()},
        "expected": f"{calibration.expected_false_alarm_rate:.4f}",
        "warned": "yes" if found.shift is not None and found.shift.is_clear else "no",
        "fit_seconds": f"{model.manifest.history.seconds:.1f}",
        "machine": f"{machine()}; {THREADS} threads", "versions": versions("blemish", "torch", "numpy"),
    }  # fmt: skip


def table(rows: list[Row]) -> str:
    """Markdown, one line per data set and way."""
    lines = [
        "| Data | Thresholds from | Image AUROC | Threshold at 1 % | False alarms at 1 % | at 5 % "
        "| Expected at 1 % | Warned of |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['data']} | {row['images']} images, {row['way']} ({row['effective']} independent) "
        f"| {row['image_auroc']} | {row['threshold']} | {float(row['false_alarms_0.01']):.1%} "
        f"| {float(row['false_alarms_0.05']):.1%} | {float(row['expected']):.1%} | {row['warned']} |"
        for row in rows
    ]
    return "\n".join([*lines, "", *measured_on(rows)])


if __name__ == "__main__":
    main(sys.argv[1:])
