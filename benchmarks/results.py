"""The results table: fits and evaluates every row with the command line and writes the tables of the docs.

    BLEMISH_DATA=... BLEMISH_WEIGHTS=... make results
    BLEMISH_DATA=... BLEMISH_WEIGHTS=... python -m benchmarks.results [METHOD ...]

Each row is one `blemish fit` and one `blemish evaluate` in processes of their own. Rows that stand in
benchmarks/results.csv are not run again: delete a line to measure it anew. It can be stopped at any time and goes on
where it was, with `--resume` for methods that train. Without the two variables only the tables are rewritten.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tables import ROOT, Row, fill_pages, machine, measured_on, read_rows, versions, write_rows

TABLE = Path(__file__).with_name("results.csv")
MODELS = ROOT / ".results"
"""Where models and unfinished training lie; may be deleted."""
COLUMNS = (
    "method", "options", "data", "seed", "image_auroc", "pixel_auroc", "aupro", "image_f1_max", "pixel_f1_max",
    "false_alarm_rate", "miss_rate", "fit_seconds", "image_seconds", "model_megabytes", "machine", "versions",
)  # fmt: skip
COSTS = ("fit_seconds", "image_seconds", "model_megabytes")
SHOWN = ("image_auroc", "pixel_auroc", "aupro")
SHORT = 300.0
"""Seconds that a fit may take to be run with more seeds than the first."""
AUTO = "--image-size auto"
DATA = {"bottle": "mvtec_ad/bottle", "magnetic_tile": "magnetic_tile"}


@dataclass(frozen=True, slots=True)
class Run:
    """A line of the table; what it does not say is the default: squashed, 10 % held out."""

    method: str
    chosen: str = ""
    """Options without the size."""
    seeds: int = 1
    """Runs with the seeds 0, 1, … at most; of several, the mean and the standard deviation are shown."""
    data: tuple[str, ...] = tuple(DATA)
    size: str = "--image-size 256"
    """Empty for presets that name their size."""

    @property
    def options(self) -> str:
        """All options but the seed."""
        return " ".join(filter(None, (self.chosen, self.size)))


RUNS = (
    Run("patchcore", "--backbone resnet18", seeds=3),
    Run("patchcore", seeds=3),
    Run("padim", "--backbone resnet18 --set layers=1,2,3"),
    Run("padim"),
    Run("fastflow", "--preset resnet18", seeds=3),
    Run("fastflow", data=("bottle",)),
    Run("msflow", "--preset resnet18"),
    Run("simplenet", "--backbone resnet18", seeds=3),
    Run("simplenet", data=("bottle",)),
    Run("cpr", "--preset resnet18"),
    Run("efficientad"),
    Run("efficientad", "--set hard_quantile=0", data=("bottle",)),
    Run("reconpatch", "--backbone resnet18", seeds=3),
    Run("reconpatch"),
    Run("pni", "--backbone resnet18", seeds=3),
    Run("pni"),
    Run("regad", "--set steps=0"),
    Run("softpatch", "--backbone resnet18", seeds=3),
    Run("softpatch"),
    Run("anomalydino", "--backbone resnet18 --set layers=2,3 --set rotations=1 --set bank_size=20000"),
    Run("autoencoder", seeds=3),
    Run("autoencoder", "--preset texture", data=("magnetic_tile",)),
    Run("denoising_autoencoder", seeds=3),
    Run("denoising_autoencoder", "--preset texture", data=("magnetic_tile",)),
    Run("vae", seeds=3),
    Run("vae", "--preset texture", data=("magnetic_tile",)),
    Run("anogan", seeds=3),
    Run("f_anogan", seeds=3),
    Run("f_anogan", "--preset texture", data=("magnetic_tile",)),
    Run("ganomaly", seeds=3),
    Run("ganomaly", "--preset texture", data=("magnetic_tile",)),
    Run("cyclegan", seeds=3),
    Run("cyclegan", "--preset texture", data=("magnetic_tile",)),
    Run("diffusionad"),
    Run("diffusionad", "--set patches=true", data=("magnetic_tile",)),
    Run("template"),
    Run("variation"),
    Run("texture"),
    Run("pca"),
    Run("patchcore", "--preset paper --backbone resnet50_caffe", data=("bottle",), size=""),
    Run("patchcore", "--backbone resnet18 --set bank_size=20000", data=("bottle",), size="--image-size 900"),
    Run("patchcore", "--backbone resnet18 --set coreset_ratio=0.1"),
    Run("patchcore", "--backbone resnet18 --set coreset=streaming", seeds=3),
    Run("patchcore", "--backbone resnet18 --set coreset=greedy --set coreset_ratio=0.1"),
    Run("patchcore", "--backbone resnet18:random"),
    Run("patchcore", "--backbone resnet18 --set neighbours=1"),
    *(Run("patchcore", resize, 3, ("magnetic_tile",), AUTO) for resize in ("", "--resize fit")),
)


SPLIT = ("--hold-out", "0.1", "--group-by", "none")
"""The same images are learned by all methods, whatever their thresholds rest on by default."""


def main(methods: list[str]) -> None:
    """Measure what is missing, of these methods or of all, then write the tables."""
    rows = read_rows(TABLE)
    data, weights = os.environ.get("BLEMISH_DATA"), os.environ.get("BLEMISH_WEIGHTS")
    if data and weights:
        wanted = [
            (run, name, seed)
            for name in DATA
            for seed in range(max(run.seeds for run in RUNS))
            for run in RUNS
            if seed < run.seeds and name in run.data and run.method in (methods or [run.method])
        ]
        for run, name, seed in wanted:
            if not found(rows, run, name, seed) and (seed == 0 or is_short(rows, run, name)):
                rows.append(measure(run, name, seed, Path(data) / DATA[name]))
                write_rows(TABLE, COLUMNS, rows)
                print(*(rows[-1][c] for c in COLUMNS[:7]), flush=True)
    fill_pages("results", lambda which: table(rows, which))


def is_short(rows: list[Row], run: Run, data: str) -> bool:
    """Whether the fit with seed 0 took little enough for others to be run; older rows do not tell."""
    return all(float(row["fit_seconds"] or 0) <= SHORT for row in found(rows, run, data, 0))


def found(rows: list[Row], run: Run, data: str, seed: int | None = None) -> list[Row]:
    """The rows measured of a run: of one seed, or of all."""
    return [
        row
        for row in rows
        if (row["method"], row["options"], row["data"]) == (run.method, run.options, data)
        and seed in (None, int(row["seed"]))
    ]


def measure(run: Run, name: str, seed: int, folder: Path) -> Row:
    """One row, by the command line."""
    blemish = [sys.executable, "-m", "blemish"]
    options = [*shlex.split(run.options), "--seed", str(seed)]
    model = str(MODELS / " ".join([run.method, *options, name]).replace("/", "_"))
    on_cpu = ["--device", "cpu"]  # that of the machine that the rows name
    fit = [*blemish, "fit", run.method, str(folder), "-o", model, "--resume", *on_cpu, *options, *SPLIT]
    subprocess.run(fit, check=True)
    blank = ["--allow-blank-masks"] if name == "magnetic_tile" else []  # 4 of its 392 masks mark no pixel
    evaluate = [*blemish, "evaluate", model, str(folder), "--json", *blank, *on_cpu]
    said = subprocess.run(evaluate, check=True, capture_output=True, text=True)
    shown = subprocess.run([*blemish, "show", model, "--json"], check=True, capture_output=True, text=True)
    numbers = json.loads(said.stdout)
    row = {c: "" if numbers[c] is None else f"{numbers[c]:.4f}" for c in COLUMNS[4:11]}
    return {
        "method": run.method, "options": run.options, "data": name, "seed": str(seed), **row,
        "fit_seconds": str(json.loads(shown.stdout)["history"]["seconds"]),
        "image_seconds": f"{numbers['seconds_per_image']:.4f}",
        "model_megabytes": f"{sum(file.stat().st_size for file in Path(model).iterdir()) / 1e6:.1f}",
        "machine": machine(), "versions": versions("blemish", "torch", "numpy"),
    }  # fmt: skip


def table(rows: list[Row], which: str | None) -> str:
    """Markdown, one line per run, both data sets side by side: all runs, the first `which` or those of a method.

    If `which` is a data set, all that was measured on it.
    """
    if which in DATA:
        return whole_table(rows, which)
    lines = [
        "| `blemish fit …` | "
        + " | ".join(f"{data}<br>image AUROC / pixel AUROC / AUPRO" for data in DATA)
        + " |",
        "|---|" + "---|" * len(DATA),
    ]
    for run in runs_of(which):
        cells = [cell(found(rows, run, data)) for data in DATA]
        lines.append(f"| `{' '.join(filter(None, (run.method, run.options)))}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *measured_on(rows)])


def whole_table(rows: list[Row], data: str) -> str:
    """Markdown, one line per run on a data set, with what the model costs."""
    lines = [
        "| `blemish fit …` | image AUROC | pixel AUROC | AUPRO | fit, s | per image, s | model, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in RUNS:
        found_rows = found(rows, run, data)
        if data in run.data:
            figures = [figure([row[c] for row in found_rows]) for c in SHOWN]
            figures += [median([row[c] for row in found_rows]) for c in COSTS]
            lines.append(f"| `{' '.join(filter(None, (run.method, run.options)))}` | {' | '.join(figures)} |")
    return "\n".join([*lines, "", *measured_on(rows)])


def runs_of(which: str | None) -> tuple[Run, ...]:
    """The runs of a table whose marker is `results`, `results:COUNT` or `results:METHOD`."""
    if which is not None and which.isdecimal():
        return RUNS[: int(which)]
    return tuple(run for run in RUNS if which in (None, run.method))


def cell(rows: list[Row]) -> str:
    """The three figures shown, or a dash where nothing has been measured; how many seeds, if several."""
    if not rows:
        return "–"
    figures = " / ".join(figure([row[c] for row in rows]) for c in SHOWN)
    return figures if len(rows) == 1 else f"{figures} ({len(rows)} seeds)"


def median(values: list[str]) -> str:
    """Of the numbers that were measured, to three digits."""
    numbers = [float(value) for value in values if value]
    return f"{statistics.median(numbers):.3g}" if numbers else "–"


def figure(values: list[str]) -> str:
    """One measured number; of several the mean and the standard deviation."""
    if not values or not all(values):
        return "–"
    numbers = [float(value) for value in values]
    mean = f"{statistics.mean(numbers):.4f}"
    return mean if len(numbers) == 1 else f"{mean} ± {statistics.stdev(numbers):.4f}"


if __name__ == "__main__":
    main(sys.argv[1:])
