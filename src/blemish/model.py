"""A fitted model: preprocessing, method and calibration; it inspects images and is saved as one folder."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from blemish.calibration import Calibration
from blemish.data.find import find_images, is_folder, list_folder
from blemish.data.images import read_image
from blemish.data.preprocess import Preprocess
from blemish.errors import DataError, MethodError, ModelError
from blemish.files import resolved, sha256_of, whole_folder
from blemish.inspection.regions import find_regions
from blemish.inspection.result import Inspection, Unreadable
from blemish.manifest import (
    FILE,
    FORMAT,
    GRAPH,
    WEIGHTS,
    Manifest,
    checked_file,
    read_manifest,
    write_manifest,
)
from blemish.manifest_upgrade import (
    NORMALISED,
    require_current_graph,
    require_current_weights,
    upgrade_weights,
)
from blemish.plugins import find_method, method_names
from blemish.runtimes.base import Runtime
from blemish.scoring import Decoded, Scorer, require_finite, require_image
from blemish.types import Image, Map, Sample, Verdict

RUNTIMES = ("torch", "onnx")


@dataclass(slots=True, repr=False)
class Model:
    """A fitted model, returned by `fit` and `load`."""

    manifest: Manifest
    runtime: Runtime

    @property
    def preprocess(self) -> Preprocess:
        """Turns images into the network's input."""
        return self.manifest.preprocess

    @property
    def calibration(self) -> Calibration:
        """Thresholds and score scale."""
        return self.manifest.calibration

    @property
    def scorer(self) -> Scorer:
        """Scores images with this model, without thresholds."""
        return Scorer(self.runtime, self.preprocess)

    def summary(self) -> str:
        """Numbers of images, training time, thresholds and, unless it is the CPU, the device."""
        data, history = self.manifest.data, self.manifest.history
        taken, epochs = len(history.losses), self.manifest.arguments.get("epochs")
        # There are fewer epochs than requested after early stopping or with a limit of steps.
        trained = f" ({taken} of {epochs} epochs)" if epochs else ""
        skipped = f", skipped {data.skipped} unreadable" if data.skipped else ""
        return (
            f"Learned from {data.learned_from} images in {history.seconds:.1f} s{trained}, "
            f"held out {data.held_out}{skipped}.\n{self.calibration.describe()}"
            + (f"\nDevice: {self.runtime.device}" if self.runtime.device != "cpu" else "")
        )

    def __repr__(self) -> str:
        return f"Model(runtime={self.runtime.name!r}, {self.manifest!r})"

    def inspect(self, image: Sample | Path | str | Image) -> Inspection:
        """The verdict on one image: a file, or an (H, W, 3) RGB array of uint8 or uint16.

        Raises:
            DataError: If the file cannot be decoded, or the array is not such an image.
            ModelError: If the score is NaN or infinite.
        """
        decoded = _decode(image)
        (score,), (anomaly_map,) = self.scorer.score([decoded.image], [decoded.path])
        return self.judge(score, anomaly_map, decoded.image, decoded.path)

    def inspect_many(
        self, images: Path | str | Image | Iterable[Sample | Path | str | Image]
    ) -> Iterator[Inspection | Unreadable]:
        """The verdicts on many images, in order, in bounded memory; threads decode ahead.

        Args:
            images: Files, folders, which are searched with their subfolders, and arrays; or a single one of these.

        Yields:
            An `Inspection` for each image, or an `Unreadable` that says what is wrong with it.

        Raises:
            ModelError: If a score is NaN or infinite.
        """
        # A str is an iterable of str, and an array one of rows.
        several = [images] if isinstance(images, str | Path | np.ndarray) else images
        for scored in self.scorer.stream(_each_image(several), _read):
            if isinstance(scored, Unreadable):
                yield scored
            else:
                yield self.judge(scored.score, scored.anomaly_map, scored.image, scored.path)

    def score(self, images: Sequence[Image]) -> tuple[list[float], list[Map]]:
        """Raw scores, and anomaly maps at each image's own size; no threshold is involved.

        Raises:
            DataError: If an array is not an image.
            ModelError: If the model cannot score, or gives NaN or infinity.
        """
        return self.scorer.score(images)

    def judge(self, score: float, anomaly_map: Map, image: Image, path: Path | None = None) -> Inspection:
        """The verdict that the calibration gives for an image's score and its map, which has the image's size.

        Raises:
            ModelError: If the score or the map is NaN or infinite.
        """
        require_finite(score, anomaly_map, path)
        calibration = self.calibration
        defect_mask, regions = find_regions(anomaly_map, calibration.pixel_threshold)
        verdict: Verdict = "NG" if score > calibration.image_threshold else "OK"
        return Inspection(path, score, verdict, regions, image, anomaly_map, defect_mask, calibration)

    def save(self, folder: Path | str, *, onnx: bool = False) -> Path:
        """Write the model as a folder, whole or not at all; an older model there is replaced.

        Args:
            folder: Must not exist, or be a model.
            onnx: Whether to export an ONNX graph beside the weights.

        Raises:
            ModelError: If the folder is not a model, or the model was loaded without its weights.
        """
        from blemish.runtimes.torch import TorchRuntime, save_weights  # torch is optional

        target = resolved(Path(folder))  # a link to a model stays a link
        if not isinstance(self.runtime, TorchRuntime):
            raise ModelError(
                "Only a model in the torch runtime can be saved. Copy the folder it was loaded from."
            )
        refuse_other_content(target)
        with whole_folder(target) as temporary:
            save_weights(self.runtime.method, temporary / WEIGHTS)
            if onnx:
                from blemish.runtimes.export import export_onnx

                export_onnx(self.runtime.method, temporary / GRAPH, self.preprocess.output_size)
            files = {path.name: sha256_of(path) for path in sorted(temporary.iterdir())}
            manifest = self.manifest.changed(files=files)
            write_manifest(manifest, temporary)
        self.manifest = manifest
        return Path(folder)


def load(folder: Path | str, *, runtime: str = "torch", device: str = "auto") -> Model:
    """Load a model folder and check everything in it.

    Args:
        folder: What `Model.save` wrote.
        runtime: "torch", or "onnx" if the model was exported.
        device: Device of the torch runtime: "auto" (the GPU if there is one), "cpu", "cuda" or "cuda:1".

    Raises:
        ModelError: If the folder is absent, damaged, manipulated or too new, or there is no such runtime.
        MethodError: If the method is not known, or torch finds no such device.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if runtime == "onnx":
        if device not in ("auto", "cpu"):
            raise ModelError(
                f"The onnx runtime runs on the CPU only, not on {device!r}. Leave the device out."
            )
        from blemish.runtimes.onnx import OnnxRuntime  # needs the extra `onnx`

        require_current_graph(folder, manifest.format)
        return Model(manifest, OnnxRuntime(checked_file(folder, manifest, GRAPH)))
    if runtime != "torch":
        raise ModelError(f"There is no runtime {runtime!r}. Choose one of: {', '.join(RUNTIMES)}.")
    if manifest.method not in method_names():
        raise MethodError(
            f"{folder} was fitted with the method {manifest.method!r:.80}, which is not known here. Import the module "
            "that calls blemish.register_method, or install the package that offers the method, before loading."
        )
    cls = find_method(manifest.method)
    missing = sorted(cls.declared.arguments.keys() - manifest.arguments.keys())
    if missing and manifest.format != NORMALISED:  # a default could give other scores
        raise ModelError(
            f"{folder / FILE} lacks the arguments {', '.join(missing)} of {manifest.method}: it is damaged, or another "
            "version of the method wrote it. Copy the model folder again, or fit again."
        )
    from blemish.runtimes.torch import TorchRuntime, load_method, resolve_device

    upgrade = partial(upgrade_weights, manifest.format, manifest.method)
    method = load_method(cls, manifest.arguments, checked_file(folder, manifest, WEIGHTS), upgrade)
    manifest = manifest.changed(format=FORMAT, arguments=method.arguments)
    return Model(manifest, TorchRuntime(method, resolve_device(device)))


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
        ModelError: If the folder is not a valid model.
        ValueError: If a value is out of range.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    require_current_weights(folder, manifest.format)
    calibration = manifest.calibration
    if false_alarm_rate is not None:
        calibration = calibration.with_false_alarm_rate(false_alarm_rate)
    calibration = calibration.with_thresholds(image=image, pixel=pixel)
    manifest = manifest.changed(calibration=calibration, format=FORMAT)
    write_manifest(manifest, folder)
    return manifest


def refuse_other_content(target: Path) -> None:
    """Check that `target`, a resolved path, does not exist or is a model, which may be replaced.

    Raises:
        ModelError: If anything else is there.
    """
    if os.path.lexists(target) and not (target / FILE).is_file():  # a loop of links exists, but has no target
        raise ModelError(
            f"{target} exists and is not a model, so it is not overwritten. Name another folder."
        )


def _each_image(images: Iterable[Sample | Path | str | Image]) -> Iterator[Sample | Path | str | Image]:
    """The images, with each folder replaced by its images."""
    for image in images:
        if isinstance(image, str | Path) and is_folder(Path(image)):
            yield from find_images([image])
        else:
            yield image


def _decode(image: Sample | Path | str | Image) -> Decoded:
    if isinstance(image, np.ndarray):
        require_image(image)
        return Decoded(None, image)
    path = image.path if isinstance(image, Sample) else Path(image)
    return Decoded(path, read_image(path))


def _read(image: Sample | Path | str | Image) -> Decoded | Unreadable:
    """The decoded image, or an `Unreadable` with the error; a folder here has no images."""
    path = None
    try:
        if isinstance(image, str | Path):
            path = Path(image)
            if is_folder(path):
                raise DataError(
                    f"{path} cannot be searched for images. Check that you may read the folder."
                    if list_folder(path) is None
                    else f"{path} holds no images. Name an image, or a folder that holds images."
                )
        elif isinstance(image, Sample):
            path = image.path
        return _decode(image)
    except DataError as error:
        return Unreadable(path, error)
