"""One measurement of blemish, the counterpart of anomalib_side.py; started by compare.py, prints one JSON object.

    PYTHONPATH=.:src python benchmarks/peers/blemish_side.py ROW SETTINGS

ROW is one of `ROWS`, SETTINGS a JSON object. Three of them write what both sides read: `inputs` the test images at
the networks' size, `training-inputs` the training images, `maps` the anomaly maps and masks.
"""

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from benchmarks.peers import blemish_training
from benchmarks.peers.process import Json, answer, convolution_seconds, peak_mib

import blemish
from blemish.features.normalisation import Normalise
from blemish.metrics.evaluator import Evaluator
from blemish.model import Model
from blemish.runtimes.torch import TorchRuntime
from blemish.types import Map, Mask, Sample

FEW = 8
"""Training images of a network whose speed alone is of interest."""
GRID = 16
"""Side of the cells, in pixels, between whose corners a map is interpolated."""


def inputs(settings: Json) -> Json:
    """Write test images, evenly chosen: both sides score the same numbers."""
    samples = blemish.open_dataset(settings["data"]).test
    chosen = np.linspace(0, len(samples) - 1, min(settings["test_images"], len(samples))).round().astype(int)
    return write_inputs([samples[index] for index in chosen], settings)


def training_inputs(settings: Json) -> Json:
    """Write the first training images: both sides learn from the same numbers."""
    return write_inputs(blemish.open_dataset(settings["data"]).train[: settings["train_images"]], settings)


def write_inputs(samples: Sequence[Sample], settings: Json) -> Json:
    """Write images in [0, 1], and normalised for the other side's networks, which do not do it themselves."""
    preprocess = blemish.Preprocess()
    images = np.stack([preprocess(blemish.read_image(sample.path)) for sample in samples])
    np.savez(settings["inputs"], images=images, normalised=Normalise()(torch.from_numpy(images)).numpy())
    return {"images": len(samples)}


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


def fastflow_inspect(settings: Json) -> Json:
    """Time FastFlow's forward, batch 1, and the convolutions in it."""
    method = blemish_training.new_fastflow(settings["backbone"], settings)
    found = inspected(method, settings)
    image = torch.from_numpy(np.load(settings["inputs"])["images"][:1])
    with torch.inference_mode():
        return {**found, "convolution_seconds": convolution_seconds(lambda: method(image))}


def simplenet_inspect(settings: Json) -> Json:
    """Time SimpleNet's forward, batch 1, with a discriminator as wide as the authors'."""
    method = blemish.SimpleNet(backbone=settings["backbone"], layers=(2, 3), hidden=1024, epochs=1)
    return inspected(method, settings)


def inspected(method: blemish.Method, settings: Json) -> Json:
    """Seconds and scores of the test images, after a short training."""
    found = scored(fitted(method, {**settings, "train_images": FEW}), settings)
    return {
        "seconds": statistics.median(seconds for _, seconds in found),
        "scores": [score for score, _ in found],
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
    return blemish.fit(
        method, samples, preprocess=blemish.Preprocess(), hold_out_share=1 / len(samples), device="cpu"
    )


def learned(model: Model, settings: Json) -> list[str]:
    """The images learned from, so that the other side learns from the same."""
    names = model.manifest.data.images
    paths = {sample.path.name: sample.path for sample in blemish.open_dataset(settings["data"]).train}
    return [os.fspath(paths[Path(name).name].absolute()) for name in names]


def scored(model: Model, settings: Json) -> list[tuple[float, float]]:
    """Image score and seconds of each prepared test image, one by one, after three to warm up."""
    assert isinstance(model.runtime, TorchRuntime)
    method, prepared = model.runtime.method, torch.from_numpy(np.load(settings["inputs"])["images"])
    found = []
    with torch.inference_mode():
        for index in (0, 0, 0, *range(len(prepared))):
            started = time.perf_counter()
            score = method(prepared[index : index + 1]).score
            found.append((float(score), time.perf_counter() - started))
    return found[3:]


ROWS = {
    "inputs": inputs,
    "training-inputs": training_inputs,
    "maps": maps,
    "fit": fit,
    "inspect-one": inspect_one,
    "metrics": metrics,
    "fastflow-inspect": fastflow_inspect,
    "simplenet-inspect": simplenet_inspect,
    **blemish_training.ROWS,
}


if __name__ == "__main__":
    answer(ROWS, ("blemish", "torch", "numpy"))
