"""How far apart normal patches score: PatchCore, and ReConPatch, which is trained to bring them together.

    BLEMISH_DATA=... BLEMISH_WEIGHTS=... python -m benchmarks.normal_spread

Three tenths of the normal training images are held out; no test image is read. Each row is a fit on the others, in
benchmarks/normal_spread.csv, from which the table of docs/methods/reconpatch.md is written; rows that stand there are
not measured again.
"""

import os
import statistics
from pathlib import Path

import numpy as np
import torch
from benchmarks.tables import Row, fill_pages, machine, measured_on, read_rows, versions, write_rows
from numpy.typing import NDArray

import blemish
from blemish.data.images import read_image
from blemish.data.preprocess import Preprocess
from blemish.methods.memory_bank import MemoryBankMethod
from blemish.types import Sample

TABLE = Path(__file__).with_name("normal_spread.csv")
COLUMNS = ("data", "method", "seed", "deviation", "q99", "q999", "seconds", "machine", "versions")
DATA = {"bottle": "mvtec_ad/bottle", "magnetic_tile": "magnetic_tile"}
METHODS: dict[str, type[MemoryBankMethod]] = {
    "patchcore": blemish.PatchCore,
    "reconpatch": blemish.ReConPatch,
}
SEEDS = (0, 1, 2)
HOLD_OUT = 0.3
INPUT = Preprocess(size=(256, 256))


def main() -> None:
    """Measure what is missing, then write the table."""
    rows = read_rows(TABLE)
    data = os.environ.get("BLEMISH_DATA")
    for name, folder in DATA.items() if data and os.environ.get("BLEMISH_WEIGHTS") else ():
        images = blemish.open_dataset(Path(str(data)) / folder).train
        for method in METHODS:
            for seed in SEEDS:
                if not any((r["data"], r["method"], r["seed"]) == (name, method, str(seed)) for r in rows):
                    rows.append(
                        {"data": name, "method": method, "seed": str(seed)} | measure(method, images, seed)
                    )
                    write_rows(TABLE, COLUMNS, rows)
    fill_pages("normal_spread", lambda _: table(rows))


def measure(name: str, images: tuple[Sample, ...], seed: int) -> Row:
    """One row."""
    method = METHODS[name](backbone="resnet18")
    model = blemish.fit(
        method, images, preprocess=INPUT, hold_out_share=HOLD_OUT, group_by="none", seed=seed, device="cpu"
    )
    learned = {Path(path).name for path in model.manifest.data.images}
    held_out = [sample for sample in images if sample.path.name not in learned]
    distances = np.concatenate([patch_distances(method, sample) for sample in held_out])
    typical = np.median(distances)
    return {
        "deviation": f"{distances.std() / distances.mean():.4f}",
        "q99": f"{np.quantile(distances, 0.99) / typical:.4f}",
        "q999": f"{np.quantile(distances, 0.999) / typical:.4f}",
        "seconds": str(model.manifest.history.seconds),
        "machine": machine(), "versions": versions("blemish", "torch", "numpy"),
    }  # fmt: skip


@torch.no_grad()
def patch_distances(method: MemoryBankMethod, sample: Sample) -> NDArray[np.float64]:
    """Distance of each patch of an image to the nearest one in the bank."""
    images = torch.from_numpy(INPUT(read_image(sample.path)))[None]
    return method.memory_bank.nearest(method.embed(images).flatten(0, 2))[0].double().numpy()


def table(rows: list[Row]) -> str:
    """Markdown, one line per data set and method, the means over the seeds."""
    lines = [
        "| data | method | standard deviation / mean | 99 % / median | 99.9 % / median |",
        "|---|---|---|---|---|",
    ]
    for data in DATA:
        for method in METHODS:
            own = [row for row in rows if (row["data"], row["method"]) == (data, method)]
            if own:
                means = [
                    f"{statistics.mean(float(row[c]) for row in own):.3f}"
                    for c in ("deviation", "q99", "q999")
                ]
                lines.append(f"| {data} | {method} | {' | '.join(means)} |")
    return "\n".join([*lines, "", *measured_on(rows)])


if __name__ == "__main__":
    main()
