"""One measurement of blemish, the counterpart of anomalib_side.py; started by compare.py, prints one JSON object.

    python blemish_side.py ROW SETTINGS

ROW is `fit`, `inspect-one` or `metrics`, SETTINGS a JSON object. Two more write what both sides read: `inputs`
the test images as the networks take them, `maps` the anomaly maps and masks.
"""

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import blemish
from blemish.metrics.evaluator import Evaluator
from blemish.model import Model
from blemish.runtimes.torch import TorchRuntime
from blemish.types import Map, Mask

Json = dict[str, Any]
GRID = 16
"""Side of the cells, in pixels, between whose corners a map is interpolated."""


def inputs(settings: Json) -> Json:
    """Write test images, evenly chosen, as the network takes them: both sides score the same numbers."""
    samples = blemish.open_dataset(settings["data"]).test
    chosen = np.linspace(0, len(samples) - 1, min(settings["test_images"], len(samples))).round().astype(int)
    preprocess = blemish.Preprocess()
    np.save(
        settings["inputs"],
        np.stack([preprocess(blemish.read_image(samples[index].path)) for index in chosen]),
    )
    return {}


def maps(settings: Json) -> Json:
    """Write the maps and masks that the other side reads."""
    folder = Path(settings["folder"])
    for index, (anomaly_map, mask) in enumerate(smooth_maps(settings["maps"], settings["map_size"])):
        np.save(folder / f"map{index}.npy", anomaly_map)
        np.save(folder / f"mask{index}.npy", mask)
    return {}


def fit(settings: Json) -> Json:
    """Fit PatchCore with `blemish.fit`, one image held out."""
    method = blemish.PatchCore(backbone=settings["backbone"], coreset_ratio=settings["coreset_ratio"])
    before = peak_mib()
    started = time.perf_counter()
    model = fitted(method, settings)
    seconds = time.perf_counter() - started
    peak = peak_mib()
    return {
        "seconds": seconds,
        "peak_mib": peak,
        "before_mib": before,
        "scores": [score for score, _ in scored(model, settings)],
        "images": learned(model, settings),
    }


def inspect_one(settings: Json) -> Json:
    """Time the torch runtime's method, batch 1, with a bank of `bank_size` patches."""
    method = blemish.PatchCore(backbone=settings["backbone"], bank_size=settings["bank_size"])
    model = fitted(method, settings)
    found = scored(model, settings)
    return {
        "seconds": statistics.median(seconds for _, seconds in found),
        "scores": [score for score, _ in found],
        "bank": len(method.memory_bank.patches),
        "images": learned(model, settings),
    }


def metrics(settings: Json) -> Json:
    """Time and memory of the evaluator, which gives AUROC and AUPRO among others."""
    evaluator, before, seconds = Evaluator(), peak_mib(), 0.0
    for anomaly_map, mask in smooth_maps(settings["maps"], settings["map_size"]):
        started = time.perf_counter()
        evaluator.update(float(anomaly_map.max()), int(mask.any()), "blob", anomaly_map, mask)
        seconds += time.perf_counter() - started
    started = time.perf_counter()
    found = evaluator.compute()
    seconds += time.perf_counter() - started
    return {
        "seconds": seconds,
        "peak_mib": peak_mib() - before,
        "pixel_auroc": found.pixel_auroc,
        "aupro": found.aupro,
        "error": max(found.errors.values(), default=0.0),
    }


def smooth_maps(count: int, size: int) -> Iterator[tuple[Map, Mask]]:
    """Maps between 0 and 1, nearly all of their numbers distinct; every second has raised blobs, its defects."""
    for index in range(count):
        random = np.random.default_rng(index)
        corners = random.random((size // GRID + 1, size // GRID + 1), dtype=np.float32)
        smooth = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
        mask = np.zeros((size, size), dtype=np.uint8)
        if index % 2:
            for x, y in random.integers(0, size, (5, 2)).tolist():
                cv2.circle(mask, (x, y), size // 40, 1, -1)
        anomaly_map: Map = (0.7 * smooth + 0.3 * mask).astype(np.float32)
        yield anomaly_map, mask.astype(np.bool_)


def fitted(method: blemish.Method, settings: Json) -> Model:
    """A model of the first images of the training set; one is held out, the fewest there can be."""
    samples = blemish.open_dataset(settings["data"]).train[: settings["train_images"]]
    return blemish.fit(method, samples, hold_out_share=1 / len(samples))


def learned(model: Model, settings: Json) -> list[str]:
    """The images learned from, so that the other side learns from the same."""
    names = model.manifest.data["images"]
    paths = {sample.path.name: sample.path for sample in blemish.open_dataset(settings["data"]).train}
    return [os.fspath(paths[Path(name).name].absolute()) for name in names]


def scored(model: Model, settings: Json) -> list[tuple[float, float]]:
    """Image score and seconds of each prepared test image, one by one, after three to warm up."""
    assert isinstance(model.runtime, TorchRuntime)
    method, prepared = model.runtime.method, torch.from_numpy(np.load(settings["inputs"]))
    found = []
    with torch.inference_mode():
        for index in (0, 0, 0, *range(len(prepared))):
            started = time.perf_counter()
            score = method(prepared[index : index + 1]).score
            found.append((float(score), time.perf_counter() - started))
    return found[3:]


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


ROWS = {"inputs": inputs, "maps": maps, "fit": fit, "inspect-one": inspect_one, "metrics": metrics}


def main() -> None:
    """Measure one row."""
    row, settings = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(settings["threads"])
    cv2.setNumThreads(settings["threads"])
    if hasattr(os, "sched_setaffinity"):  # so that threads which decode images are counted, too
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: settings["threads"]])
    result = ROWS[row](settings)
    versions = {name: version(name) for name in ("blemish", "torch", "numpy")}
    print(json.dumps({**result, "versions": versions}))


if __name__ == "__main__":
    main()
