"""Painted defects on large images: how many PatchCore misses at which input, and what the input costs.

    python -m benchmarks.small_defects [INPUT...]

The product that `blemish demo` draws, at 1200 × 1600 pixels, and spots of 10, 20 and 40 pixels painted on normal images
of it. Each input is a row of benchmarks/small_defects.csv, fitted and inspected in a process of its own, from which the
table of docs/input-size.md is written; without names, the rows that are missing are measured. Two threads.
"""

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from benchmarks.tables import Row, fill_pages, machine, measured_on, read_rows, versions, write_rows
from numpy.typing import NDArray

import blemish
from blemish.data.images import write_image
from blemish.demo import render_part
from blemish.inspection.result import Inspection

TABLE = Path(__file__).with_name("small_defects.csv")
SIZE = (1200, 1600)
LEARNED, TESTED = 32, 16
"""Numbers of normal images for fitting and, each once without a spot and once with each, for testing."""
HOLD_OUT = 0.25
"""Share held out, larger than the default, so that eight images and not three set the threshold."""
SPOTS = (10, 20, 40)
"""Diameters in pixels."""
CONTRAST = 70
"""Grey levels by which a spot is darker than its surroundings, or brighter where they are dark."""
INPUTS = {"256²": 256**2, "512²": 512**2, "1024²": 1024**2, "native": 0}
"""Name → number of pixels of the input; 0: the image's own size."""
THREADS = 2
COLUMNS = (
    "input", "size", "cell", "smallest", *(f"missed_{spot}" for spot in SPOTS), "false_alarms", "fit_seconds",
    "inspect_seconds", "peak_gib", "machine", "versions",
)  # fmt: skip


def main(names: list[str]) -> None:
    """Measure the inputs asked for, or those missing; a process of its own is asked by --only INPUT FOLDER."""
    if names[:1] == ["--only"]:
        print(json.dumps(measure(names[1], Path(names[2]))))
        return
    rows = read_rows(TABLE)
    wanted = names or [name for name in INPUTS if name not in {row["input"] for row in rows}]
    with tempfile.TemporaryDirectory() as folder:
        if wanted:
            draw(Path(folder))
        for name in wanted:
            command = [sys.executable, "-m", "benchmarks.small_defects", "--only", name, folder]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rows = [row for row in rows if row["input"] != name] + [json.loads(said.splitlines()[-1])]
            rows.sort(key=lambda row: list(INPUTS).index(row["input"]))
            write_rows(TABLE, COLUMNS, rows)
            print(" | ".join(rows[-1].values()), flush=True)
    fill_pages("small_defects", lambda _: table(rows))


def draw(folder: Path, size: tuple[int, int] = SIZE) -> None:
    """Write the images in MVTec AD's layout."""
    for index in range(LEARNED + TESTED):
        rng = np.random.default_rng((0, index))
        image = render_part(rng, size=size).image
        if index < LEARNED:
            save(folder / "train/good" / f"{index:03d}.png", image)
            continue
        save(folder / "test/good" / f"{index:03d}.png", image)
        for spot in SPOTS:
            save(folder / f"test/{spot}" / f"{index:03d}.png", painted(image, spot, rng))


def save(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an image, and its folder before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)


def painted(image: NDArray[np.uint8], spot: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image with a round spot of this diameter somewhere on the plate, its edge smoothed over one pixel."""
    height, width = image.shape[:2]
    y, x = rng.uniform(0.22, 0.78) * height, rng.uniform(0.15, 0.85) * width
    rows, columns = np.mgrid[:height, :width]
    cover = np.clip(spot / 2 + 0.5 - np.hypot(rows + 0.5 - y, columns + 0.5 - x), 0, 1)[:, :, None]
    bright = image[cover[:, :, 0] > 0].mean() > 2 * CONTRAST
    changed = image + cover * (-CONTRAST if bright else CONTRAST)
    return np.asarray(changed.clip(0, 255).round(), np.uint8)


def measure(name: str, folder: Path) -> Row:
    """One row."""
    torch.set_num_threads(THREADS)
    data = blemish.open_dataset(folder)
    pixels = INPUTS[name]
    preprocess = (
        blemish.auto_preprocess(data.train, pixels=pixels) if pixels else blemish.Preprocess(size=SIZE)
    )
    model = blemish.fit(
        "patchcore",
        data.train,
        preprocess=preprocess,
        group_by="none",
        hold_out_share=HOLD_OUT,
        device="cpu",
    )
    resolution = model.manifest.resolution
    assert resolution is not None
    called: dict[str, list[bool]] = {}
    started = time.perf_counter()
    for sample, result in zip(data.test, model.inspect_many(data.test), strict=True):
        assert isinstance(result, Inspection)
        called.setdefault(sample.defect_type, []).append(result.verdict == "NG")
    seconds = (time.perf_counter() - started) / len(data.test)
    height, width = preprocess.size
    return {
        "input": name, "size": f"{height} × {width}", "cell": f"{resolution.cell[0]:.1f} × {resolution.cell[1]:.1f}",
        "smallest": str(math.ceil(resolution.smallest_defect)),
        **{f"missed_{spot}": str(called[str(spot)].count(False)) for spot in SPOTS},
        "false_alarms": str(called["good"].count(True)),
        "fit_seconds": f"{model.manifest.history.seconds:.1f}", "inspect_seconds": f"{seconds:.2f}",
        "peak_gib": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f}",
        "machine": f"{machine()}; {THREADS} threads", "versions": versions("blemish", "torch", "numpy"),
    }  # fmt: skip


def table(rows: list[Row]) -> str:
    """Markdown, one line per input."""
    lines = [
        f"| `--pixels` | input | one cell covers | seen from about | missed of {TESTED}: "
        + ", ".join(f"{spot} px" for spot in SPOTS)
        + f" | false alarms of {TESTED} | fit | inspect one image | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        missed = ", ".join(row[f"missed_{spot}"] for spot in SPOTS)
        lines.append(
            f"| {row['input']} | {row['size']} | {row['cell']} px | {row['smallest']} px | {missed} "
            f"| {row['false_alarms']} | {row['fit_seconds']} s | {row['inspect_seconds']} s | {row['peak_gib']} GiB |"
        )
    return "\n".join([*lines, "", *measured_on(rows)])


if __name__ == "__main__":
    main(sys.argv[1:])
