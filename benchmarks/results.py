"""The results table: fits and evaluates every row with the command line, seed 0, and writes the tables of the docs.

    BLEMISH_DATA=... BLEMISH_WEIGHTS=... python -m benchmarks.results

Each row is one `blemish fit` and one `blemish evaluate` in processes of their own. Rows that stand in
benchmarks/results.csv are not run again: delete a line to measure it anew. Without the two variables only the
tables are rewritten, from the file.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.tables import Row, fill_pages, machine, measured_on, read_rows, versions, write_rows

TABLE = Path(__file__).with_name("results.csv")
COLUMNS = (
    "method", "options", "data", "image_auroc", "pixel_auroc", "aupro", "image_f1_max", "pixel_f1_max",
    "false_alarm_rate", "miss_rate", "machine", "versions",
)  # fmt: skip
SHOWN = ("image_auroc", "pixel_auroc", "aupro")
DATA = {"bottle": "mvtec_ad/bottle", "magnetic_tile": "magnetic_tile"}
RUNS = (
    ("patchcore", "--backbone resnet18"),
    ("patchcore", ""),
    ("padim", "--backbone resnet18 --set layers=1,2,3"),
    ("padim", ""),
    ("template", ""),
    ("variation", ""),
    ("texture", ""),
    ("pca", ""),
    ("patchcore", "--preset paper --backbone resnet50_caffe"),
    ("patchcore", "--backbone resnet18 --image-size 900 --set bank_size=20000"),
    ("patchcore", "--backbone resnet18 --set coreset_ratio=0.1"),
    ("patchcore", "--backbone resnet18 --set coreset=greedy"),
    ("patchcore", "--backbone resnet18:random"),
    ("patchcore", "--backbone resnet18 --set neighbours=1"),
)
"""Method and options; everything else is the default: 256 × 256 squashed, coreset 1 %, 10 % held out, seed 0."""
BOTTLE_ONLY = (
    "--preset paper --backbone resnet50_caffe",
    "--backbone resnet18 --image-size 900 --set bank_size=20000",
)
"""Options for the bottles' own size, or for comparison with a record on bottles."""


def main() -> None:
    """Measure what is missing, then write the tables."""
    rows = read_rows(TABLE)
    done = {(row["method"], row["options"], row["data"]) for row in rows}
    data, weights = os.environ.get("BLEMISH_DATA"), os.environ.get("BLEMISH_WEIGHTS")
    if data and weights:
        for method, options in RUNS:
            for name in DATA:
                if (method, options, name) not in done and not (name != "bottle" and options in BOTTLE_ONLY):
                    rows.append(measure(method, options, name, Path(data) / DATA[name]))
                    write_rows(TABLE, COLUMNS, rows)
                    print(*(rows[-1][c] for c in COLUMNS[:6]), flush=True)
    fill_pages("results", lambda method: table(rows, method))


def measure(method: str, options: str, name: str, folder: Path) -> Row:
    """One row, by the command line."""
    blemish = [sys.executable, "-m", "blemish"]
    with tempfile.TemporaryDirectory() as temporary:
        model = str(Path(temporary) / "model")
        subprocess.run([*blemish, "fit", method, str(folder), "-o", model, *shlex.split(options)], check=True)
        found = subprocess.run(
            [*blemish, "evaluate", model, str(folder), "--json"], check=True, capture_output=True, text=True
        )
    numbers = json.loads(found.stdout)
    row = {c: "" if numbers[c] is None else f"{numbers[c]:.4f}" for c in COLUMNS[3:10]}
    return {
        "method": method, "options": options, "data": name, **row,
        "machine": machine(), "versions": versions("blemish", "torch", "numpy"),
    }  # fmt: skip


def table(rows: list[Row], method: str | None) -> str:
    """Markdown: one line per method and options, both data sets side by side."""
    lines = [
        "| `blemish fit …` | "
        + " | ".join(f"{data}<br>image AUROC / pixel AUROC / AUPRO" for data in DATA)
        + " |",
        "|---|" + "---|" * len(DATA),
    ]
    for name, options in RUNS:
        if method is None or name == method:
            cells = [cell(rows, name, options, data) for data in DATA]
            lines.append(f"| `{' '.join(filter(None, (name, options)))}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *measured_on(rows)])


def cell(rows: list[Row], method: str, options: str, data: str) -> str:
    """The three figures shown, or a dash where a row has not been measured."""
    for row in rows:
        if (row["method"], row["options"], row["data"]) == (method, options, data):
            return " / ".join(row[c] or "–" for c in SHOWN)
    return "–"


if __name__ == "__main__":
    main()
