"""One measurement of anomalib, in its own environment; started by compare.py, prints one JSON object.

    python anomalib_side.py ROW SETTINGS

ROW is `fit`, `inspect-one` or `metrics`, SETTINGS a JSON object. Nothing of blemish is imported here.
"""

# mypy: disable-error-code="import-not-found"

import contextlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    # torchvision's usual wheel is compiled for a torch with CUDA. Beside a CPU one its compiled operators are absent:
    # nothing measured here uses them, but the import asks for these two by name.
    OPERATORS = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        OPERATORS.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import anomalib.models.image.patchcore.torch_model as patchcore
from anomalib.data import Folder, ImageBatch
from anomalib.data.utils import read_image
from anomalib.engine import Engine
from anomalib.metrics import AUPRO, AUROC
from anomalib.models import Patchcore

Json = dict[str, Any]
SAFETENSORS_FLOAT32 = "F32"


class MeteredCoreset(patchcore.KCenterGreedy):  # type: ignore[misc]
    """The library's own sampler with a clock, and with an end after `limit` sweeps over all patches."""

    limit: int | None = None
    latest: "MeteredCoreset"
    coreset_size: int

    def __init__(self, embedding: torch.Tensor, sampling_ratio: float) -> None:
        self.started = time.perf_counter()
        super().__init__(embedding, sampling_ratio)
        self.wanted = self.coreset_size
        if self.limit is not None:
            self.coreset_size = min(self.wanted, self.limit + 1)
        self.sweeps: list[float] = []
        MeteredCoreset.latest = self

    def update_distances(self, cluster_center: Any) -> None:
        """One sweep over all patches; the first comes after the random projection."""
        self.sweeps.append(time.perf_counter())
        super().update_distances(cluster_center)

    def select_coreset_idxs(self) -> list[int]:
        """Select, and note when that was done."""
        chosen: list[int] = super().select_coreset_idxs()
        self.sweeps.append(time.perf_counter())
        return chosen


def fit(settings: Json) -> Json:
    """Fit PatchCore with the library's Engine on exactly the images given."""
    MeteredCoreset.limit = settings["sweeps"]
    patchcore.KCenterGreedy = MeteredCoreset
    model = new_model(settings)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for index, path in enumerate(settings["images"]):
            (images / f"{index:05}{Path(path).suffix}").symlink_to(path)
        before = peak_mib()
        started = time.perf_counter()
        data = Folder(
            "product", images, num_workers=settings["threads"], test_split_mode="none", val_split_mode="none"
        )
        # Barebones: no checkpoint, no log and no progress bar, as blemish.fit writes none.
        engine = Engine(accelerator="cpu", barebones=True, limit_val_batches=0, default_root_dir=folder)
        engine.fit(model, datamodule=data)
        seconds = time.perf_counter() - started
    peak, coreset = peak_mib(), MeteredCoreset.latest
    halves = np.array_split(np.diff(coreset.sweeps), 2)
    early, late = (float(np.median(half)) for half in halves)
    return {
        "seconds": seconds,
        "coreset_seconds": coreset.sweeps[-1] - coreset.started,
        "sweep_seconds": coreset.sweeps[-1] - coreset.sweeps[0],
        "last_to_first": late / early,
        "sweeps": len(coreset.sweeps) - 1,
        "sweeps_wanted": coreset.wanted - 1,
        "patches": coreset.n_observations,
        "peak_mib": peak,
        "before_mib": before,
        "scores": [score for score, _ in scored(model.model, settings)],
    }


def inspect_one(settings: Json) -> Json:
    """Time the torch model's forward, batch 1, with `bank_size` patches of the training images as its bank."""
    model = new_model(settings)
    network = model.model
    with torch.inference_mode():
        network.train()
        for path in settings["images"]:
            network(model.pre_processor(read_image(path, as_tensor=True)[None]))
        patches = torch.vstack(network.embedding_store)
        network.embedding_store.clear()
        network.memory_bank = patches[torch.randperm(len(patches))[: settings["bank_size"]]].clone()
    found = scored(network, settings)
    return {
        "seconds": statistics.median(seconds for _, seconds in found),
        "scores": [score for score, _ in found],
        "bank": len(network.memory_bank),
    }


def metrics(settings: Json) -> Json:
    """Time and memory of pixel AUROC and AUPRO over the maps in `folder`."""
    fields = ["anomaly_map", "gt_mask"]
    auroc, aupro = AUROC(fields=fields), AUPRO(fields=fields)
    before, seconds = peak_mib(), 0.0
    for index in range(settings["maps"]):
        anomaly_map, mask = (
            torch.from_numpy(np.load(Path(settings["folder"]) / f"{kind}{index}.npy"))[None]
            for kind in ("map", "mask")
        )
        batch = ImageBatch(image=torch.zeros(1, 3, 8, 8), anomaly_map=anomaly_map, gt_mask=mask)
        started = time.perf_counter()
        auroc.update(batch)
        aupro.update(batch)
        seconds += time.perf_counter() - started
    started = time.perf_counter()
    values = float(auroc.compute()), float(aupro.compute())
    seconds += time.perf_counter() - started
    return {
        "seconds": seconds,
        "peak_mib": peak_mib() - before,
        "pixel_auroc": values[0],
        "aupro": values[1],
    }


def new_model(settings: Json) -> Any:
    """PatchCore on the backbone weights given; nothing is downloaded."""
    model = Patchcore(
        backbone=settings["backbone"],
        layers=("layer2", "layer3"),
        pre_trained=False,
        coreset_sampling_ratio=settings.get("coreset_ratio", 0.1),
    )
    backbone = model.model.feature_extractor.feature_extractor
    result = backbone.load_state_dict(read_safetensors(Path(settings["weights"])), strict=False)
    absent = [name for name in result.missing_keys if not name.endswith("num_batches_tracked")]
    if absent or result.unexpected_keys:
        raise SystemExit(
            f"{settings['weights']} does not fit: {absent} absent, {result.unexpected_keys} left."
        )
    return model


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of float32 numbers."""
    raw = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(raw[:8], "little")
    entries = json.loads(raw[8:start])
    entries.pop("__metadata__", None)
    tensors = {}
    for name, entry in entries.items():
        if entry["dtype"] != SAFETENSORS_FLOAT32:
            raise SystemExit(f"{path} holds {name} as {entry['dtype']}; give a file of float32 numbers.")
        begin, end = (start + offset for offset in entry["data_offsets"])
        tensors[name] = torch.frombuffer(raw[begin:end], dtype=torch.float32).reshape(entry["shape"])
    return tensors


def scored(network: Any, settings: Json) -> list[tuple[float, float]]:
    """Image score and seconds of each prepared test image, one by one, after three to warm up."""
    inputs = torch.from_numpy(np.load(settings["inputs"]))
    network.eval()
    found = []
    with torch.inference_mode():
        for index in (0, 0, 0, *range(len(inputs))):
            started = time.perf_counter()
            score = network(inputs[index : index + 1]).pred_score
            found.append((float(score), time.perf_counter() - started))
    return found[3:]


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


ROWS = {"fit": fit, "inspect-one": inspect_one, "metrics": metrics}


def main() -> None:
    """Measure one row; what the library prints goes to stderr."""
    row, settings = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(settings["threads"])
    if hasattr(os, "sched_setaffinity"):  # so that workers which decode images count as threads, too
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: settings["threads"]])
    torch.manual_seed(0)
    with contextlib.redirect_stdout(sys.stderr):
        result = ROWS[row](settings)
    versions = {name: version(name) for name in ("anomalib", "torch", "numpy")}
    print(json.dumps({**result, "versions": versions}))


if __name__ == "__main__":
    main()
