"""Two processes change one model at the same time, others read it, and some are killed: is anything lost?

    python -m benchmarks.changes [--changes 500]

Each change is an update, a calibration, a fit or an export, chosen at random. Writers note each change that was
reported as done. In the end the model must hold every noted change since the latest fit, no reader may have failed,
and nothing may be left in the folder but the model's own files.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import blemish
from blemish.data.images import write_image
from blemish.errors import ModelError
from blemish.files import stored_path
from blemish.manifest import FILE, FORMER, GRAPH, read_manifest

WRITERS, READERS = 2, 2
REFUSED = "was changed by another process since it was loaded"
KILLED_EVERY = 8.0
"""Longest time between two kills, in seconds; a process takes about three to start."""


def main() -> None:
    """Run the changes and print what was checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--changes", type=int, default=500)
    parser.add_argument("--role", choices=["write", "read"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role == "write":
        write(arguments.folder, arguments.number)
    elif arguments.role == "read":
        read(arguments.folder, arguments.number)
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(run(Path(folder), arguments.changes))


def run(folder: Path, changes: int) -> str:
    """Let writers and readers run until so many changes are done; the facts in one line.

    Raises:
        AssertionError: If a change is lost, a reader failed or something is left over.
    """
    parts = [part(folder / "parts" / f"{number}.png", number) for number in range(6)]
    fitted(parts, seed=0).save(folder / "model")
    started: list[int] = [0]

    def start(role: str) -> "subprocess.Popen[bytes]":
        started[0] += 1
        options = ["--role", role, "--folder", str(folder), "--number", str(started[0])]
        return subprocess.Popen([sys.executable, "-m", "benchmarks.changes", *options])

    rng, begun, kills = random.Random(0), time.monotonic(), 0
    processes = {start(role): role for role in ["write"] * WRITERS + ["read"] * READERS}
    while len(noted(folder, "done")) < changes:
        time.sleep(rng.uniform(0, KILLED_EVERY))
        process = rng.choice([*processes])
        role = processes.pop(process)
        process.kill()
        process.wait()
        kills += 1
        processes[start(role)] = role
    for process in processes:
        process.kill()
        process.wait()
    blemish.recalibrate(folder / "model", pixel=1.0)  # removes what the last ones left
    check(folder)
    counts = {kind: sum(one["kind"] == kind for one in noted(folder, "done")) for kind in CHANGES}
    listed = ", ".join(f"{count} × {kind}" for kind, count in counts.items())
    return (
        f"{listed}; {len(noted(folder, 'refused'))} refused, {kills} processes killed, "
        f"{len(noted(folder, 'read'))} reads, {time.monotonic() - begun:.0f} s: nothing lost, nothing left over"
    )


def check(folder: Path) -> None:
    """Compare the model with what its writers noted."""
    model = blemish.load(folder / "model")
    manifest = read_manifest(folder / "model")
    assert not noted(folder, "failed"), noted(folder, "failed")[:3]
    since_fit = [one for one in noted(folder, "done") if one["seed"] == manifest.seed]
    for one in since_fit:
        if one["kind"] == "update":
            assert one["image"] in manifest.data.images, f"{one} is lost"
        if one["kind"] == "export":
            assert GRAPH in manifest.files, f"{one} is lost"
    if any(one["kind"] == "calibrate" for one in since_fit):
        assert manifest.calibration.image_threshold >= FIRST_THRESHOLD, "a calibration is lost"
    model.inspect(folder / "parts" / "0.png")
    own = {FILE, FORMER}
    for name in (FILE, FORMER):
        if (folder / "model" / name).exists():
            files = read_manifest(folder / "model", name).files
            own |= {stored_path(folder / "model", file, sha256).name for file, sha256 in files.items()}
    assert {path.name for path in (folder / "model").iterdir()} <= own, "something is left over"


def write(folder: Path, number: int) -> None:
    """Change the model again and again, until killed."""
    rng = random.Random(number)
    for step in range(10**6):
        kind = rng.choice([*CHANGES])
        try:
            note(folder, "done", number, {"kind": kind, **CHANGES[kind](folder, 10**6 * number + step)})
        except Exception as error:
            is_refused = isinstance(error, ModelError) and REFUSED in str(error)
            note(folder, "refused" if is_refused else "failed", number, {"kind": kind, "error": repr(error)})


def read(folder: Path, number: int) -> None:
    """Load the model and inspect an image again and again, until killed."""
    while True:
        try:
            blemish.load(folder / "model").inspect(folder / "parts" / "0.png")
            note(folder, "read", number, {})
        except Exception as error:
            note(folder, "failed", number, {"error": repr(error)})


FIRST_THRESHOLD = 1000.0
"""Thresholds from here are those that `calibrate` sets."""


def update(folder: Path, number: int) -> dict[str, Any]:
    """Learn another image."""
    model = blemish.load(folder / "model")
    image = part(folder / "new" / f"{number}.png", number)
    blemish.update(model, [image], accept_ng=True)
    model.save(folder / "model", onnx=GRAPH in model.manifest.files)
    return {"seed": model.manifest.seed, "image": image.name}


def calibrate(folder: Path, number: int) -> dict[str, Any]:
    """Set another image threshold."""
    manifest = blemish.recalibrate(folder / "model", image=FIRST_THRESHOLD + number)
    return {"seed": manifest.seed}


def fit(folder: Path, number: int) -> dict[str, Any]:
    """Replace the model by another one, told by its seed."""
    fitted(sorted((folder / "parts").iterdir()), seed=number).save(folder / "model")
    return {"seed": number}


def export(folder: Path, number: int) -> dict[str, Any]:
    """Write a graph beside the weights."""
    model = blemish.load(folder / "model")
    model.save(folder / "model", onnx=True)
    return {"seed": model.manifest.seed}


CHANGES = {"update": update, "calibrate": calibrate, "fit": fit, "export": export}


def fitted(images: list[Path], seed: int) -> blemish.Model:
    """A small model that can be updated and exported."""
    method = blemish.PatchCore(backbone="compact:random", coreset_ratio=0.2)
    return blemish.fit(method, images, preprocess=blemish.Preprocess(size=(32, 32)), seed=seed)


def part(path: Path, seed: int) -> Path:
    """An image of noise; written once."""
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_image(path, np.random.default_rng(seed).integers(90, 130, (32, 32, 3), np.uint8))
    return path


def note(folder: Path, kind: str, number: int, values: dict[str, Any]) -> None:
    """Append a line to a file of this process, so that no line is mixed with another's."""
    with (folder / f"{kind}.{number}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def noted(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The whole lines that all processes noted."""
    texts = [path.read_text("utf-8") for path in folder.glob(f"{kind}.*.jsonl")]
    return [json.loads(line) for text in texts for line in text.split("\n")[:-1]]


if __name__ == "__main__":
    main()
