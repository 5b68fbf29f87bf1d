"""A learned product: preprocessing, method, calibration; what is saved, shipped and asked for verdicts."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.calibration import Calibration
from blemish.data.images import read_image
from blemish.data.preprocess import Preprocess
from blemish.errors import BlemishError, DataError, ModelError
from blemish.inspection.regions import find_regions
from blemish.manifest import (
    FILE,
    FORMAT,
    GRAPH,
    WEIGHTS,
    Manifest,
    checked_file,
    read_manifest,
    sha256_of,
    write_manifest,
)
from blemish.manifest_upgrade import require_current_graph, require_current_weights, upgrade_weights
from blemish.plugins import find_method
from blemish.runtimes.base import Runtime
from blemish.types import Image, Inspection, Map, Prediction, Verdict

RUNTIMES = ("torch", "onnx")


@dataclass(slots=True)
class Model:
    """What `fit` gives: inspects images, saves itself as a folder."""

    manifest: Manifest
    runtime: Runtime

    @property
    def preprocess(self) -> Preprocess:
        """How pictures become the network's input."""
        return self.manifest.preprocess

    @property
    def calibration(self) -> Calibration:
        """Thresholds and score scale."""
        return self.manifest.calibration

    def inspect(self, image: Image | Path | str) -> Inspection:
        """The verdict on one image: a file, or an (H, W, 3) RGB array of uint8 or uint16.

        Raises:
            DataError: If the file cannot be decoded, or the array is not such an image.
            ModelError: If the score is NaN or infinite.
        """
        path = None if isinstance(image, np.ndarray) else Path(image)
        picture = image if isinstance(image, np.ndarray) else read_image(image)
        (score,), (anomaly_map,) = self.score([picture])
        return self.judge(score, anomaly_map, path)

    def score(self, images: Sequence[Image]) -> tuple[list[float], list[Map]]:
        """Raw scores, and anomaly maps at each image's own size; no threshold is involved.

        Raises:
            DataError: If an array is not an image.
            ModelError: If the model cannot score, or gives NaN or infinity.
        """
        for image in images:
            _require_image(image)
        scores, maps = self._predict(np.stack([self.preprocess(image) for image in images]))
        restored = [
            self.preprocess.restore(m, image.shape[:2]) for m, image in zip(maps, images, strict=True)
        ]
        return [float(score) for score in scores], restored

    def judge(self, score: float, anomaly_map: Map, path: Path | None = None) -> Inspection:
        """The verdict that the calibration gives a score and its map.

        Raises:
            ModelError: If the score or the map is NaN or infinite, which no comparison would notice.
        """
        _require_finite(score, anomaly_map)
        defect_mask, regions = find_regions(anomaly_map, self.calibration.pixel_threshold)
        threshold = self.calibration.image_threshold
        verdict: Verdict = "NG" if score > threshold else "OK"
        return Inspection(path, score, threshold, verdict, regions, anomaly_map, defect_mask)

    def _predict(self, inputs: NDArray[np.float32]) -> Prediction[NDArray[np.float32]]:
        """What the runtime says, checked: the sha256 of hostile weights can be right, too."""
        try:
            scores, maps = self.runtime.predict(inputs)
        except BlemishError:
            raise
        except Exception as error:
            raise ModelError(
                f"The model cannot score these images: {error}. It is damaged; copy it again or fit anew."
            ) from error
        if (scores.shape, maps.shape) != ((len(inputs),), (len(inputs), *inputs.shape[2:])):
            raise ModelError(
                f"The model gave scores {scores.shape} and maps {maps.shape} for inputs {inputs.shape}. "
                "It is damaged; copy it again or fit anew."
            )
        _require_finite(scores, maps)
        return Prediction(scores, maps)

    def save(self, folder: Path | str, *, onnx: bool = False) -> Path:
        """Write the model as a folder, aside first, then renamed; an older model there is replaced.

        Args:
            folder: Where; must not exist, or be a model.
            onnx: Whether to export an ONNX graph beside the weights.

        Raises:
            ModelError: If something else than a model is there, or the model was loaded without its weights.
        """
        from blemish.runtimes.torch import TorchRuntime, save_weights  # torch is optional

        target = Path(folder).resolve()  # a link to a model stays a link
        if not isinstance(self.runtime, TorchRuntime):
            raise ModelError(
                "Only a model in the torch runtime can be saved. Copy the folder it was loaded from."
            )
        refuse_other_content(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            save_weights(self.runtime.method, aside / WEIGHTS)
            if onnx:
                from blemish.runtimes.export import export_onnx

                export_onnx(self.runtime.method, aside / GRAPH, self.preprocess.output_size)
            files = {path.name: sha256_of(path) for path in sorted(aside.iterdir())}
            manifest = self.manifest.changed(files=files)
            write_manifest(manifest, aside)
            aside.chmod(0o755)
            _swap(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self.manifest = manifest
        return Path(folder)


def load(folder: Path | str, *, runtime: str = "torch", device: str = "cpu") -> Model:
    """Load a model folder, checking everything in it first.

    Args:
        folder: What `Model.save` wrote.
        runtime: "torch", or "onnx" if the model was exported.
        device: Where the torch runtime runs, e.g. "cpu" or "cuda".

    Raises:
        ModelError: If the folder is absent, damaged, hostile or too new.
        MethodError: If the method is not installed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if runtime == "onnx":
        from blemish.runtimes.onnx import OnnxRuntime  # an extra of its own

        require_current_graph(folder, manifest.format)
        return Model(manifest, OnnxRuntime(checked_file(folder, manifest, GRAPH)))
    if runtime != "torch":
        raise ModelError(f"There is no runtime {runtime!r}. Choose one of: {', '.join(RUNTIMES)}.")
    cls = find_method(manifest.method)
    from blemish.runtimes.torch import TorchRuntime, load_method

    upgrade = partial(upgrade_weights, manifest.format, manifest.method)
    method = load_method(cls, manifest.arguments, checked_file(folder, manifest, WEIGHTS), upgrade)
    return Model(manifest.changed(format=FORMAT), TorchRuntime(method, device))


def recalibrate(
    folder: Path | str,
    *,
    false_alarm_rate: float | None = None,
    image: float | None = None,
    pixel: float | None = None,
) -> Manifest:
    """Change a saved model's thresholds; the weights are not touched.

    Args:
        folder: The model.
        false_alarm_rate: Share of normal images that may be called NG; sets both thresholds.
        image: The image threshold, set by hand.
        pixel: The pixel threshold, set by hand.

    Raises:
        ModelError: If the folder is not a sound model.
        ValueError: If a value is impossible.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    require_current_weights(folder, manifest.format)
    calibration = manifest.calibration
    if false_alarm_rate is not None:
        calibration = calibration.with_false_alarm_rate(false_alarm_rate)
    calibration = calibration.with_thresholds(image=image, pixel=pixel)
    manifest = manifest.changed(calibration=calibration)
    write_manifest(manifest, folder)
    return manifest


def refuse_other_content(target: Path) -> None:
    """Nothing but a model may be replaced by a model.

    Raises:
        ModelError: If something else is there.
    """
    if target.exists() and not (target / FILE).is_file():
        raise ModelError(
            f"{target} exists and is not a model, so it is not overwritten. Name another folder."
        )


def _swap(aside: Path, target: Path) -> None:
    """Put the new folder where the old one is; should the second rename fail, the old one comes back."""
    if not target.exists():
        aside.rename(target)
        return
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    target.rename(old)
    try:
        aside.rename(target)
    except BaseException:
        old.rename(target)
        raise
    with contextlib.suppress(OSError):
        shutil.rmtree(old)


def _require_image(image: Image) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape or image.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"An image is an (H, W, 3) RGB array of uint8 or uint16, got {image.shape} of {image.dtype}. "
            "Convert it, or give the path of a file."
        )


def _require_finite(scores: ArrayLike, maps: ArrayLike) -> None:
    if not (np.isfinite(scores).all() and np.isfinite(maps).all()):
        raise ModelError(
            "The model gave a score or an anomaly map that is NaN or infinite, so there is no verdict. "
            "Its weights are damaged or it learned from unsuitable images; copy it again or fit anew."
        )
