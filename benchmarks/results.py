"""The results table: fits and evaluates every row with the command line, seed 0, and writes the tables of the docs.

    BLEMISH_DATA=... BLEMISH_WEIGHTS=... python benchmarks/results.py

Each row is one `blemish fit` and one `blemish evaluate` in processes of their own. Rows that stand in
benchmarks/results.csv are not run again: delete a line to measure it anew. Without the two variables only the
tables are rewritten, from the file.
"""

import csv
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
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
    ("patchcore", "--backbone resnet18:random"),
    ("patchcore", "--backbone resnet18 --set neighbours=1"),
)
"""Method and options; everything else is the default: 256 × 256 squashed, coreset 1 %, 10 % held out, seed 0."""


def main() -> None:
    """Measure what is missing, then write the tables."""
    rows = read_rows()
    done = {(row["method"], row["options"], row["data"]) for row in rows}
    data, weights = os.environ.get("BLEMISH_DATA"), os.environ.get("BLEMISH_WEIGHTS")
    if data and weights:
        for method, options in RUNS:
            for name in DATA:
                if (method, options, name) not in done:
                    rows.append(measure(method, options, name, Path(data) / DATA[name]))
                    write_rows(rows)
                    print(*(rows[-1][c] for c in COLUMNS[:6]), flush=True)
    write_tables(rows)


def measure(method: str, options: str, name: str, folder: Path) -> dict[str, str]:
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
        "machine": f"{os.cpu_count()} cores, {processor()}",
        "versions": ", ".join(f"{p} {version(p)}" for p in ("blemish", "torch", "numpy")),
    }  # fmt: skip


def processor() -> str:
    """The processor's name, where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def read_rows() -> list[dict[str, str]]:
    """Rows measured so far."""
    if not TABLE.exists():
        return []
    with TABLE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(rows: list[dict[str, str]]) -> None:
    """Write all rows aside, then rename."""
    aside = TABLE.with_suffix(".part")
    with aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    aside.replace(TABLE)


def write_tables(rows: list[dict[str, str]]) -> None:
    """Put the tables between the markers `<!-- results -->` or `<!-- results:METHOD -->` and `<!-- /results -->`."""
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        text = page.read_text(encoding="utf-8")
        filled = re.sub(
            r"(<!-- results(?::(\w+))? -->\n).*?(<!-- /results -->)",
            lambda match: match[1] + "\n" + table(rows, match[2]) + "\n" + match[3],
            text,
            flags=re.DOTALL,
        )
        if filled != text:
            page.write_text(filled, encoding="utf-8")


def table(rows: list[dict[str, str]], method: str | None) -> str:
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
    machines = sorted({f"{row['machine']}; {row['versions']}" for row in rows})
    return "\n".join([*lines, "", *(f"Measured on {machine}." for machine in machines), ""])


def cell(rows: list[dict[str, str]], method: str, options: str, data: str) -> str:
    """The three figures shown, or a dash where a row has not been measured."""
    for row in rows:
        if (row["method"], row["options"], row["data"]) == (method, options, data):
            return " / ".join(row[c] or "–" for c in SHOWN)
    return "–"


if __name__ == "__main__":
    main()
