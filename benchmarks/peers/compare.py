"""blemish beside anomalib: the same images, weights and threads, each in processes of its own environment.

    BLEMISH_DATA=... BLEMISH_WEIGHTS=... python -m benchmarks.peers.compare --peer-python PATH [ROW ...]

Rows that stand in results.csv with the same settings are not measured again: delete a line to measure it anew.
Prints the rows asked for as a Markdown table. README.md beside this file says what each row is.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.columns import Json, Side, agreement, memory, seconds, versions
from benchmarks.peers.network_rows import (
    efficientad_step,
    fastflow_epoch,
    fastflow_inspect,
    fastflow_step,
    ganomaly_step,
    simplenet_inspect,
)
from benchmarks.tables import ROOT, Row, fill_pages, machine, measured_on, read_rows, write_rows

HERE = Path(__file__).parent
TABLE = HERE / "results.csv"
COLUMNS = (
    "row", "settings", "anomalib_seconds", "blemish_seconds", "seconds_ratio", "anomalib_mib", "blemish_mib",
    "mib_ratio", "note", "machine", "versions",
)  # fmt: skip
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip
BACKBONE = "resnet18"


def fit(ours: Side, peer: Side, settings: Json, ratio: float, sweeps: int | None) -> Json:
    """PatchCore learned from the same images: seconds of the whole fit, largest memory of its process."""
    ours("inputs")
    mine = ours("fit", coreset_ratio=ratio)
    theirs = peer("fit", coreset_ratio=ratio, sweeps=sweeps, images=mine["images"])
    wanted, done = theirs["sweeps_wanted"], theirs["sweeps"]
    missing = theirs["sweep_seconds"] * (wanted / done - 1)
    notes = [f"{len(mine['images'])} images, {theirs['patches']} patches"]
    if done < wanted:
        notes.append(
            f"anomalib's time extrapolated linearly: {done} of its {wanted} coreset sweeps were run in "
            f"{theirs['sweep_seconds']:.1f} s, a late one taking {theirs['last_to_first']:.2f} of an early one; "
            "its scores and memory are those of the part run"
        )
    notes += [
        f"anomalib's coreset alone {theirs['coreset_seconds'] + missing:.1f} s",
        f"MiB before the fit {theirs['before_mib']:.0f} and {mine['before_mib']:.0f}",
        agreement(theirs, mine),
    ]
    return {
        **seconds(theirs["seconds"] + missing, mine["seconds"]),
        **memory(theirs["peak_mib"], mine["peak_mib"]),
        "note": "; ".join(notes),
        "versions": versions(theirs, mine),
    }


def fit_1(ours: Side, peer: Side, settings: Json) -> Json:
    """The fit that keeps one patch in 100, run to its end on both sides."""
    return fit(ours, peer, settings, 0.01, None)


def fit_10(ours: Side, peer: Side, settings: Json) -> Json:
    """The fit that keeps one patch in 10; the other side's coreset is run in part."""
    return fit(ours, peer, settings, 0.1, settings["sweeps"])


def inspect_one(ours: Side, peer: Side, settings: Json) -> Json:
    """One image at a time through the torch models."""
    ours("inputs")
    mine = ours("inspect-one")
    theirs = peer("inspect-one", images=mine["images"])
    return {
        **seconds(theirs["seconds"], mine["seconds"]),
        "note": f"median of {len(mine['scores'])} images; banks of {theirs['bank']} and {mine['bank']} patches; "
        + agreement(theirs, mine),
        "versions": versions(theirs, mine),
    }


def metrics(ours: Side, peer: Side, settings: Json) -> Json:
    """Pixel AUROC and AUPRO of many maps; the other side's are measured on fewer and extrapolated."""
    few, many = settings["maps"], settings["all_maps"]
    with tempfile.TemporaryDirectory() as folder:
        ours("maps", folder=folder)
        theirs = peer("metrics", folder=folder)
    mine, all_mine = ours("metrics"), ours("metrics", maps=many)
    notes = [
        f"{many} maps; anomalib's figures extrapolated by {many}/{few} from {few} maps",
        f"on the same {few} maps {theirs['seconds']:.2f} s and {mine['seconds']:.2f} s "
        f"({theirs['seconds'] / mine['seconds']:.2f} times), {theirs['peak_mib']:.0f} MiB and "
        f"{mine['peak_mib']:.0f} MiB ({theirs['peak_mib'] / max(mine['peak_mib'], 1):.2f} times)",
        "pixel AUROC {:.6f} and {:.6f}".format(theirs["pixel_auroc"], mine["pixel_auroc"]),
        "AUPRO {:.6f} and {:.6f}".format(theirs["aupro"], mine["aupro"]),
        f"largest error bound of blemish at {many} maps {all_mine['error']:.1e}",
    ]
    return {
        **seconds(theirs["seconds"] * many / few, all_mine["seconds"]),
        **memory(theirs["peak_mib"] * many / few, all_mine["peak_mib"]),
        "note": "; ".join(notes),
        "versions": versions(theirs, mine),
    }


ROWS: dict[str, tuple[Callable[[Side, Side, Json], Json], tuple[str, ...]]] = {
    "fit-1": (fit_1, ("threads", "train_images", "test_images")),
    "fit-10": (fit_10, ("threads", "train_images", "test_images", "sweeps")),
    "inspect-one": (inspect_one, ("threads", "train_images", "test_images", "bank_size")),
    "metrics": (metrics, ("threads", "maps", "all_maps", "map_size")),
    "fastflow-step": (fastflow_step, ("threads", "flow_batch", "steps")),
    "fastflow-epoch": (fastflow_epoch, ("threads", "train_images", "flow_batch")),
    "fastflow-inspect": (fastflow_inspect, ("threads", "test_images")),
    "efficientad-step": (efficientad_step, ("threads", "steps")),
    "ganomaly-step": (ganomaly_step, ("threads", "flow_batch", "steps")),
    "simplenet-inspect": (simplenet_inspect, ("threads", "test_images")),
}
"""What measures a row, and the settings that it depends on."""
WITHOUT_DATA = ("metrics", "fastflow-step", "efficientad-step", "ganomaly-step")
NEEDS_SIMPLENET = "simplenet-inspect"


def run_side(python: Path | str, script: Path, row: str, settings: Json) -> Json:
    """One row of one side in a fresh process, whose stderr is shown as it comes."""
    threads = dict.fromkeys(THREAD_VARIABLES, str(settings["threads"]))
    paths = os.pathsep.join(filter(None, (os.fspath(ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.run(
        [python, script, row, json.dumps(settings)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, **threads, "PYTHONPATH": paths},
    )  # fmt: skip
    if process.returncode:
        raise SystemExit(
            f"{script.name} ended with status {process.returncode} at {row}; what it said stands above. "
            "Rows measured before are kept. A status of -9 usually means that memory ran out."
        )
    found: Json = json.loads(process.stdout)
    return found


def measure(row: str, peer_python: Path, settings: Json) -> Json:
    """One line of the table."""

    def ours(name: str, **more: Any) -> Json:
        return run_side(sys.executable, HERE / "blemish_side.py", name, {**settings, **more})

    def peer(name: str, **more: Any) -> Json:
        script = "simplenet_side.py" if name == NEEDS_SIMPLENET else "anomalib_side.py"
        return run_side(peer_python, HERE / script, name, {**settings, **more})

    with tempfile.TemporaryDirectory() as folder:
        settings = {**settings, "inputs": os.fspath(Path(folder) / "inputs.npz")}
        measured = ROWS[row][0](ours, peer, settings)
    return {
        **dict.fromkeys(COLUMNS, ""),
        "row": row,
        "settings": described(row, settings),
        **measured,
        "machine": machine(),
    }


def described(row: str, settings: Json) -> str:
    """The settings that a row depends on, as one text."""
    return " ".join(f"{name}={settings[name]}" for name in ROWS[row][1])


def markdown(rows: list[Row]) -> str:
    """The rows as a table, ratios being anomalib's figure over blemish's, then what was measured on."""
    lines = [
        "| row | anomalib, s | blemish, s | ratio | anomalib, MiB | blemish, MiB | ratio | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    shown = ("row", *COLUMNS[2:9])
    lines += ["| " + " | ".join(row[c] or "–" for c in shown) + " |" for row in rows]
    return "\n".join([*lines, "", *measured_on(rows)])


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all, if they can be")
    parser.add_argument("--peer-python", type=Path, required=True, help="python of anomalib's environment")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--train-images", type=int, default=209, help="at most")
    parser.add_argument("--test-images", type=int, default=20, help="timed and compared, evenly chosen")
    parser.add_argument("--sweeps", type=int, default=400, help="of anomalib's coreset that fit-10 runs")
    parser.add_argument("--bank-size", type=int, default=21400, help="patches in inspect-one's banks")
    parser.add_argument("--maps", type=int, default=20, help="maps that both sides evaluate")
    parser.add_argument("--all-maps", type=int, default=500, help="maps that blemish evaluates alone")
    parser.add_argument("--map-size", type=int, default=1024, help="side of the maps in pixels")
    parser.add_argument(
        "--flow-batch", type=int, default=32, help="images in a training step of FastFlow and GANomaly"
    )
    parser.add_argument("--steps", type=int, default=5, help="training steps, of which the median is taken")
    parser.add_argument(
        "--simplenet", type=Path, help="checkout of SimpleNet's official code, DonaldRR/SimpleNet"
    )
    parser.add_argument("--output", type=Path, default=TABLE)
    found = parser.parse_args(given)
    unknown = [row for row in found.rows if row not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; choose of {', '.join(ROWS)}")
    found.rows = found.rows or [row for row in ROWS if found.simplenet or row != NEEDS_SIMPLENET]
    if NEEDS_SIMPLENET in found.rows and not (
        found.simplenet and (found.simplenet / "simplenet.py").exists()
    ):
        parser.error(
            f"{NEEDS_SIMPLENET} needs --simplenet, the folder of the official code with simplenet.py in it"
        )
    for name in ("train_images", "test_images", "sweeps", "maps", "all_maps", "flow_batch", "steps"):
        if getattr(found, name) < 2:
            parser.error(f"--{name.replace('_', '-')} must be at least 2")
    for variable in ("BLEMISH_DATA", "BLEMISH_WEIGHTS"):
        if not set(found.rows) <= set(WITHOUT_DATA) and not os.environ.get(variable):
            parser.error(f"set {variable}; only the rows {', '.join(WITHOUT_DATA)} go without")
    return found


def main(given: Sequence[str] | None = None) -> None:
    """Measure what is missing, then print the table."""
    found = arguments(given)
    settings = {
        name: value for name, value in vars(found).items() if name not in ("rows", "peer_python", "output")
    }
    settings["backbone"] = BACKBONE
    settings["simplenet"] = os.fspath(found.simplenet.absolute()) if found.simplenet else None
    settings["weights"] = os.fspath(
        Path(os.environ.get("BLEMISH_WEIGHTS", "")).absolute() / f"{BACKBONE}.safetensors"
    )
    settings["data"] = os.fspath(Path(os.environ.get("BLEMISH_DATA", "")).absolute() / "mvtec_ad" / "bottle")
    rows = read_rows(found.output)
    shown = []
    for row in found.rows:
        key = (row, described(row, settings))
        done = [line for line in rows if (line["row"], line["settings"]) == key]
        if not done:
            done = [measure(row, found.peer_python, settings)]
            rows += done
            write_rows(found.output, COLUMNS, rows)
        shown += done
    print(markdown(shown))
    if found.output == TABLE:
        fill_pages("peers", lambda _: markdown(rows))


if __name__ == "__main__":
    main()
