"""One measurement of anomalib, in its own environment; started by compare.py, prints one JSON object.

    PYTHONPATH=. python benchmarks/peers/anomalib_side.py ROW SETTINGS

ROW is one of `ROWS`, SETTINGS a JSON object. Nothing of blemish is imported here.
"""

# mypy: disable-error-code="import-not-found"

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.peers.peer_networks import define_torchvision_operators, load_backbone, scored
from benchmarks.peers.process import Json, answer, peak_mib

try:
    import torchvision  # noqa: F401
except RuntimeError:
    define_torchvision_operators()

import anomalib.models.image.patchcore.torch_model as patchcore
from anomalib.data import Folder, ImageBatch
from anomalib.data.utils import read_image
from anomalib.engine import Engine
from anomalib.metrics import AUPRO, AUROC
from anomalib.models import Patchcore
from benchmarks.peers import anomalib_training


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
        "scores": [score for score, _ in score_images(model.model, settings)],
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
    found = score_images(network, settings)
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
    load_backbone(model.model.feature_extractor.feature_extractor, settings)
    return model


def score_images(network: Any, settings: Json) -> list[tuple[float, float]]:
    """Image score and seconds of each prepared test image."""
    network.eval()
    return scored(lambda image: float(network(image).pred_score), settings)


ROWS = {"fit": fit, "inspect-one": inspect_one, "metrics": metrics, **anomalib_training.ROWS}

if __name__ == "__main__":
    answer(ROWS, ("anomalib", "torch", "numpy"))
