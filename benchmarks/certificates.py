"""How certificates hold: proved with half of the defective images, checked on the other half.

    python -m benchmarks.certificates [DATA...]

DATA are names of `SETS`, data sets in $BLEMISH_DATA. PatchCore (ResNet-18, 256 × 256 pixels) is fitted once, all test
images are judged once, with and without `RULES`, and the defective ones are divided into halves `SPLITS` times. The
rows are kept in benchmarks/certificates.csv, from which the table of docs/certificate.md is written.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from benchmarks.tables import Row, fill_pages, machine, measured_on, read_rows, versions, write_rows
from numpy.typing import NDArray
from scipy.stats import binomtest

import blemish
from blemish.calibration import Calibration
from blemish.rules.record import Accepted, Rule, Rules
from blemish.workflow.certify import Judged, prove

TABLE = Path(__file__).with_name("certificates.csv")
SETS = {"bottle": "mvtec_ad/bottle", "magnetic_tile": "magnetic_tile"}
RULES = {
    "none": None,
    "sizes": Rules(
        accepted=Accepted(minor=1),
        rules=(Rule(name="size", measure="area_px", minor=30.0, major=200.0, critical=1000.0),),
    ),
}
PROMISES = (0.05, 0.1, 0.2)
CONFIDENCE = 0.95
SPLITS = 200
THREADS = 1
COLUMNS = (
    "data", "rules", "promise", "half", "holds", "proved", "missed", "broken", "scrap", "review", "machine", "versions",
)  # fmt: skip
Scores = NDArray[np.float64]


def main(names: list[str]) -> None:
    """Measure the data sets asked for, or those missing."""
    torch.set_num_threads(THREADS)
    rows = read_rows(TABLE)
    for name in names or [name for name in SETS if name not in {row["data"] for row in rows}]:
        new = measure(name, Path(os.environ["BLEMISH_DATA"]) / SETS[name])
        rows = [row for row in rows if row["data"] != name] + new
        rows.sort(key=lambda row: list(SETS).index(row["data"]))
        write_rows(TABLE, COLUMNS, rows)
        print(*(" | ".join(row.values()) for row in new), sep="\n", flush=True)
    fill_pages("certificates", lambda _: table(rows))


def measure(name: str, folder: Path) -> list[Row]:
    """The rows of a data set."""
    data = blemish.open_dataset(folder)
    model = blemish.fit(
        "patchcore",
        data.train,
        arguments={"backbone": "resnet18"},
        preprocess=blemish.Preprocess(size=(256, 256)),
    )
    rows = []
    for which, rules in RULES.items():
        model.manifest = model.manifest.changed(rules=rules)
        decisive, ng = np.empty(len(data.test)), np.zeros(len(data.test), np.bool_)
        for number, found in enumerate(model.inspect_many(data.test)):
            if isinstance(found, blemish.Unreadable):
                raise found.error
            decisive[number], ng[number] = found.decisive, found.verdict == "NG"
        labels = np.array([sample.label for sample in data.test]) == 1
        for promise in PROMISES:
            row = splits(decisive[labels], decisive[~labels], ng[~labels], model.calibration, promise)
            rows.append(
                {"data": name, "rules": which, **row}
                | {
                    "machine": f"{machine()}; {THREADS} thread",
                    "versions": versions("blemish", "torch", "numpy"),
                }
            )
    return rows


def splits(
    defects: Scores, good: Scores, scrapped: NDArray[np.bool_], calibration: Calibration, promise: float
) -> Row:
    """What certificates of halves of the defective images prove, and what the other halves show."""
    random = np.random.default_rng(0)
    half = len(defects) // 2
    found: list[tuple[bool, float, float, bool, float]] = []
    for _ in range(SPLITS):
        order = random.permutation(len(defects))
        proved, threshold = proof(defects[order[:half]], calibration, promise)
        others = defects[order[half:]]
        missed = int((others <= threshold).sum())
        broken = proved < 1 and binomtest(missed, len(others), proved, "greater").pvalue < 1 - CONFIDENCE
        reviewed = ((good > threshold) & ~scrapped).mean()
        found.append((proved <= promise, proved, missed / len(others), bool(broken), float(reviewed)))
    holds, proofs, misses, broken_ones, reviews = np.array(found, np.float64).T
    return {
        "promise": f"{promise:g}", "half": str(half), "holds": f"{holds.mean():.3f}",
        "proved": f"{proofs.mean():.4f}", "missed": f"{misses.mean():.4f}", "broken": f"{broken_ones.mean():.3f}",
        "scrap": f"{scrapped.mean():.4f}", "review": f"{reviews.mean():.4f}",
    }  # fmt: skip


def proof(defects: Scores, calibration: Calibration, promise: float) -> tuple[float, float]:
    """The miss rate that defective images prove, and the review threshold that goes with it."""
    values: Sequence[float] = defects.tolist()
    bad = Judged(["OK"] * len(values), values, len(values), len(values))
    changed, proved = prove(bad, calibration, promise, CONFIDENCE)
    return proved, changed.lowest_threshold


def table(rows: list[Row]) -> str:
    """Markdown, one line per data set, rules and promise."""
    lines = [
        "| Data | Rules | Promise | Defects in a half | Promise proved in | Proved rate | Missed of the other half "
        "| Contradicted in | Normal images NG | for review |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['data']} | {row['rules']} | {float(row['promise']):.0%} | {row['half']} | {float(row['holds']):.0%} "
        f"| {float(row['proved']):.1%} | {float(row['missed']):.1%} | {float(row['broken']):.1%} "
        f"| {float(row['scrap']):.1%} | {float(row['review']):.1%} |"
        for row in rows
    ]
    return "\n".join([*lines, "", *measured_on(rows)])


if __name__ == "__main__":
    main(sys.argv[1:])
