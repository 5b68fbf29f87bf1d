"""Few normal images: RegAD, PaDiM and PatchCore learn from the same 2, 4 or 8 images of MVTec bottle.

    BLEMISH_DATA=... BLEMISH_WEIGHTS=... python -m benchmarks.few_shots [METHOD...]

RegAD is trained on two other products, magnetic_tile and that of `blemish demo`, and also measured without. Each row of
benchmarks/few_shots.csv is one set of images: SETS of them for each number of shots, drawn from all training images.
Defaults of the methods, images squashed to 224 × 224. Rows that are missing are measured, and the table of
docs/methods/regad.md is written from all. Without the two variables only the table is written.
"""

import os
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.tables import Row, fill_pages, machine, measured_on, read_rows, versions, write_rows

import blemish
from blemish.demo import write_product
from blemish.types import Sample

TABLE = Path(__file__).with_name("few_shots.csv")
SHOTS = (2, 4, 8)
SETS = 3
HELD_OUT = 8
"""Number of other normal images, for the thresholds, on which no figure of the table depends."""
SIZE = (224, 224)
METHODS: dict[str, dict[str, Any]] = {
    "regad": {},
    "regad --set steps=0": {"steps": 0},
    "padim": {},
    "patchcore": {},
}
COLUMNS = ("method", "shots", "set", "image_auroc", "pixel_auroc", "fit_seconds", "machine", "versions")


def main(methods: list[str]) -> None:
    """Measure what is missing, of these methods or of all, then write the table."""
    rows = read_rows(TABLE)
    data = os.environ.get("BLEMISH_DATA")
    if data and os.environ.get("BLEMISH_WEIGHTS"):
        known = {(row["method"], row["shots"], row["set"]) for row in rows}
        wanted = [
            (method, shots, number)
            for number in range(SETS)
            for shots in SHOTS
            for method in methods or METHODS
            if (method, str(shots), str(number)) not in known
        ]
        with tempfile.TemporaryDirectory() as folder:
            write_product(Path(folder) / "plate", train=60, test_good=1, per_defect=1)
            others = [product(Path(data) / "magnetic_tile"), product(Path(folder) / "plate")]
            for method, shots, number in wanted:
                rows.append(measure(Path(data) / "mvtec_ad/bottle", method, shots, number, others))
                write_rows(TABLE, COLUMNS, rows)
                print(*rows[-1].values(), flush=True)
    fill_pages("few_shots", lambda _: table(rows))


def product(folder: Path) -> list[Sample]:
    """The normal training images of a data set, as a category of their own."""
    return [replace(sample, category=folder.name) for sample in blemish.open_dataset(folder).train]


def measure(folder: Path, method: str, shots: int, number: int, others: list[list[Sample]]) -> Row:
    """One row."""
    dataset = blemish.open_dataset(folder)
    drawn = np.random.default_rng(number).permutation(len(dataset.train))[: shots + HELD_OUT]
    arguments = METHODS[method]
    name = method.split()[0]
    model = blemish.fit(
        name,
        [dataset.train[index] for index in drawn],
        arguments=arguments,
        shots=shots,
        group_by="none",
        preprocess=blemish.Preprocess(size=SIZE),
        auxiliary=[sample for other in others for sample in other] if method == "regad" else (),
        device="cpu",
    )
    found = blemish.evaluate(model, dataset.test)
    return {
        "method": method, "shots": str(shots), "set": str(number),
        "image_auroc": f"{found.image_auroc:.4f}", "pixel_auroc": f"{found.pixel_auroc:.4f}",
        "fit_seconds": f"{model.manifest.history.seconds:.0f}",
        "machine": machine(), "versions": versions("blemish", "torch", "numpy"),
    }  # fmt: skip


def table(rows: list[Row]) -> str:
    """Markdown, one line per method: mean and standard deviation over the sets."""
    lines = [
        "| image AUROC / pixel AUROC | " + " | ".join(f"{shots} shots" for shots in SHOTS) + " |",
        "|---|" + "---|" * len(SHOTS),
        *(
            f"| `{method}` | " + " | ".join(cell(rows, method, shots) for shots in SHOTS) + " |"
            for method in METHODS
        ),
    ]
    note = "Mean ± standard deviation over sets of images, whose number is in brackets."
    command = "Written by `python -m benchmarks.few_shots`; images squashed to 224 × 224."
    return "\n".join([*lines, "", note, command, *measured_on(rows)])


def cell(rows: list[Row], method: str, shots: int) -> str:
    """The figures of a method and a number of shots; a dash if there are none."""
    chosen = [row for row in rows if (row["method"], row["shots"]) == (method, str(shots))]
    if not chosen:
        return "–"
    values = [[float(row[column]) for row in chosen] for column in ("image_auroc", "pixel_auroc")]
    texts = [
        f"{statistics.mean(v):.4f}" + (f" ± {statistics.stdev(v):.4f}" if len(v) > 1 else "") for v in values
    ]
    return f"{' / '.join(texts)} ({len(chosen)})"


if __name__ == "__main__":
    main(sys.argv[1:])
