"""Defective images among the training images: what SoftPatch and PatchCore lose by them.

    BLEMISH_DATA=... BLEMISH_WEIGHTS=... python -m benchmarks.noisy_training [DATA...]

Defective test images are drawn until they are a tenth of all training images, and are left out of the test. Each
method is fitted without them and with them, called normal, and evaluated on the same images. Rows that stand in
benchmarks/noisy_training.csv are not measured again; the table of docs/methods/softpatch.md is written from it.
"""

import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmarks.tables import Row, fill_pages, machine, measured_on, read_rows, versions, write_rows

import blemish
from blemish.types import Sample

TABLE = Path(__file__).with_name("noisy_training.csv")
DATA = {"bottle": "mvtec_ad/bottle", "magnetic_tile": "magnetic_tile"}
METHODS = ("softpatch", "patchcore")
TRAININGS = ("clean", "noisy")
SEEDS = (0, 1, 2)
NOISE = 0.1
"""Share of defective images among the noisy training images."""
ARGUMENTS = {"backbone": "resnet18"}
SIZE = (256, 256)
COLUMNS = (
    "data", "method", "training", "seed", "learned", "defective", "image_auroc", "fit_seconds", "machine", "versions",
)  # fmt: skip


def main(names: Sequence[str]) -> None:
    """Measure the rows that are missing, of these data sets or of all, then write the table."""
    rows = read_rows(TABLE)
    data = os.environ.get("BLEMISH_DATA")
    done = {tuple(row[column] for column in COLUMNS[:4]) for row in rows}
    for name in (names or tuple(DATA)) if data and os.environ.get("BLEMISH_WEIGHTS") else ():
        for seed in SEEDS:
            for method in METHODS:
                for training in TRAININGS:
                    if (name, method, training, str(seed)) not in done:
                        rows.append(measure(name, Path(str(data)) / DATA[name], method, training, seed))
                        write_rows(TABLE, COLUMNS, rows)
                        print(*(rows[-1][column] for column in COLUMNS[:8]), flush=True)
    fill_pages("noisy_training", lambda _: table(rows))


def measure(name: str, folder: Path, method: str, training: str, seed: int) -> Row:
    """One row."""
    data = blemish.open_dataset(folder)
    noise, tested = drawn(data.train, data.test, seed)
    images = [*data.train, *(noise if training == "noisy" else ())]
    preprocess = blemish.Preprocess(size=SIZE)
    model = blemish.fit(
        method,
        images,
        arguments=ARGUMENTS,
        preprocess=preprocess,
        group_by="none",
        hold_out_share=0.1,
        seed=seed,
        device="cpu",
    )
    auroc = blemish.evaluate(model, tested).image_auroc
    return {
        "data": name, "method": method, "training": training, "seed": str(seed),
        "learned": str(len(images)), "defective": str(len(images) - len(data.train)), "image_auroc": f"{auroc:.4f}",
        "fit_seconds": f"{model.manifest.history.seconds:.1f}",
        "machine": machine(), "versions": versions("blemish", "torch", "numpy"),
    }  # fmt: skip


def drawn(train: Sequence[Sample], test: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """Defective test images, called normal, and the other test images; without masks, which nothing here needs."""
    defective = [index for index, sample in enumerate(test) if sample.label]
    count = round(len(train) * NOISE / (1 - NOISE))
    chosen = set(np.random.default_rng(seed).permutation(defective)[:count].tolist())
    noise = [replace(test[index], label=0, mask_path=None) for index in sorted(chosen)]
    return noise, [replace(sample, mask_path=None) for i, sample in enumerate(test) if i not in chosen]


def table(rows: list[Row]) -> str:
    """Markdown, one line per data set and method, from the seeds with which both trainings are measured."""
    lines = [
        "| data | method | defective of the training images | image AUROC, clean | image AUROC, noisy | lost |",
        "|---|---|---|---|---|---|",
    ]
    for name in DATA:
        for method in METHODS:
            found = {
                (row["training"], row["seed"]): row
                for row in rows
                if (row["data"], row["method"]) == (name, method)
            }
            seeds = [s for s in map(str, SEEDS) if all((training, s) in found for training in TRAININGS)]
            clean, noisy = ([found[training, seed] for seed in seeds] for training in TRAININGS)
            if not seeds:
                continue
            lost = statistics.mean(aurocs(clean)) - statistics.mean(aurocs(noisy))
            lines.append(
                f"| {name} | `{method}` | {noisy[0]['defective']} of {noisy[0]['learned']} | {figure(clean)} "
                f"| {figure(noisy)} | {lost:.4f} |"
            )
    return "\n".join([*lines, "", *measured_on(rows)])


def aurocs(rows: list[Row]) -> list[float]:
    """The image AUROC of each row."""
    return [float(row["image_auroc"]) for row in rows]


def figure(rows: list[Row]) -> str:
    """Mean and standard deviation over the seeds."""
    values = aurocs(rows)
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f} ({len(values)} seeds)"


if __name__ == "__main__":
    main(sys.argv[1:])
