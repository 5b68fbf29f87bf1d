"""A fitted model: preprocessing, method and calibration; it inspects images and is saved as one folder."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from blemish.calibration import Calibration
from blemish.data.preprocess import Preprocess
from blemish.errors import DataError, MethodError, ModelError
from blemish.files import resolved, store
from blemish.image_inputs import decode, each_image, read
from blemish.inspection.result import Inspection, Unreadable
from blemish.inspection.unusual import Unusual
from blemish.inspection.verdict import Judge
from blemish.manifest import FILE, FORMAT, FORMER, GRAPH, WEIGHTS, Manifest, write_manifest
from blemish.manifest_upgrade import NORMALISED, require_current_graph, upgrade_weights
from blemish.messages import lines, message
from blemish.model_folder import changing, checked_file, keep_former, read_consistently, require_replaceable
from blemish.plugins import find_method, method_names
from blemish.runtimes.base import Runtime
from blemish.scoring import Scored, Scorer, as_image, require_finite
from blemish.types import Image, Map, Sample

if TYPE_CHECKING:
    from blemish.runtimes.torch import TorchRuntime

RUNTIMES = ("torch", "onnx")


@dataclass(slots=True, repr=False)
class Model:
    """A fitted model, returned by `fit` and `load`."""

    manifest: Manifest
    runtime: Runtime
    _saved: tuple[Path, Manifest] | None = field(default=None, init=False)
    """The folder that it was loaded from or saved to, and the manifest there."""
    _judge: Judge | None = field(default=None, init=False)
    """For the present calibration and rules."""
    unusual: Unusual = field(default=Unusual(), kw_only=True)
    """After `fit`, the normal images with the highest scores by models that did not learn from them."""

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
        trained = message(" ({taken} of {epochs} epochs)", taken=taken, epochs=epochs) if epochs else ""
        skipped = message(", skipped {count} unreadable", count=data.skipped) if data.skipped else ""
        if data.excluded:
            skipped += message(", excluded {count}", count=data.excluded)
        texts = [
            message(
                "Learned from {count} images in {seconds:.1f} s{trained}, held out {held_out}{skipped}.",
                count=data.learned_from,
                seconds=history.seconds,
                trained=trained,
                held_out=data.held_out,
                skipped=skipped,
            ),
            *filter(None, [data.describe_groups()]),
            self.calibration.describe(),
        ]
        if self.unusual.images:
            texts.append(self.unusual.summary())
        if self.runtime.device != "cpu":
            texts.append(message("Device: {device}", device=self.runtime.device))
        return lines(texts)

    def __repr__(self) -> str:
        return f"Model(runtime={self.runtime.name!r}, {self.manifest!r})"

    def inspect(self, image: Sample | Path | str | Image) -> Inspection:
        """The verdict on one image: a file, or an array of uint8 or uint16: (H, W, 3) RGB or (H, W) grey.

        Raises:
            DataError: If the file cannot be decoded, or the array is not such an image.
            ModelError: If the score is NaN or infinite.
        """
        decoded = decode(image)
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
            ModelError: If the model cannot score.
        """
        # A str is an iterable of str, and an array one of rows.
        several = [images] if isinstance(images, str | Path | np.ndarray) else images
        previous: str | None = None
        for scored in self.scorer.stream(each_image(several), read, Unreadable):
            if isinstance(scored, Unreadable):
                yield scored
                continue
            found = self._judged(scored, previous)
            previous = found.digest
            yield found
            del scored, found  # frees a large image while the next is scored

    def score(self, images: Sequence[Image]) -> tuple[list[float], list[Map]]:
        """Raw scores, and anomaly maps at each image's own size; no threshold is involved.

        Raises:
            DataError: If an array is not an image.
            ModelError: If the model cannot score, or gives NaN or infinity.
        """
        return self.scorer.score(images)

    def judge(
        self,
        score: float,
        anomaly_map: Map,
        image: Image,
        path: Path | None = None,
        previous: str | None = None,
    ) -> Inspection:
        """The verdict by the thresholds and rules on an image's score and its map, which has the image's size.

        `previous` is the `Inspection.digest` of the image before, of a camera's.

        Raises:
            DataError: If the array is not an image, or the map does not have its size.
            ModelError: If the score or the map is NaN or infinite.
        """
        pixels = as_image(image)
        if anomaly_map.shape != pixels.shape[:2]:
            raise DataError(
                "The map has the shape {found}, the image {expected}. Give a map of the image's size, "
                "as Model.score does.",
                found=anomaly_map.shape,
                expected=pixels.shape[:2],
            )
        require_finite(score, anomaly_map, path)
        return self._current_judge().judge(score, anomaly_map, pixels, path, previous)

    def _current_judge(self) -> Judge:
        """The judge by the present calibration and rules, which keeps the zones of the latest size."""
        judge, calibration, rules = self._judge, self.calibration, self.manifest.rules
        if judge is None or judge.calibration is not calibration or judge.rules is not rules:
            judge = self._judge = Judge(calibration, rules)
        return judge

    def _judged(self, scored: Scored, previous: str | None) -> Inspection:
        return self.judge(scored.score, scored.anomaly_map, scored.image, scored.path, previous)

    def save(self, folder: Path | str, *, onnx: bool = False) -> Path:
        """Write the model to a folder, whole or not at all; a model there is replaced, other files stay.

        A model that is saved to the folder it was loaded from keeps the version there as the former one, for `undo`.

        Args:
            folder: Must be absent, empty or a model.
            onnx: Whether to export an ONNX graph beside the weights. If that fails, the model is saved without it.

        Raises:
            ModelError: If the folder is something else, another process changed the model there since it was loaded,
                the model was loaded without its weights, or the export failed.
            OSError: If the disk fails.
        """
        from blemish.runtimes.torch import TorchRuntime, save_weights  # torch is optional

        runtime = self.runtime
        if not isinstance(runtime, TorchRuntime):
            raise ModelError(
                "Only a model in the torch runtime can be saved. Copy the folder it was loaded from."
            )
        target = resolved(Path(folder))  # a link to a model stays a link
        require_replaceable(target)
        origin = self._saved[1] if self._saved and self._saved[0] == target else None
        with changing(target, origin):
            files = {WEIGHTS: store(target, WEIGHTS, partial(save_weights, runtime.method))}
            if origin is None:
                (target / FORMER).unlink(missing_ok=True)  # of another model
            elif origin.files != files:
                keep_former(target)
            if onnx:
                if origin is None or GRAPH not in origin.files:
                    self._publish(target, files)  # a failed export then costs no model
                files |= {GRAPH: store(target, GRAPH, self._export)}
            self._publish(target, files)
        return Path(folder)

    def _export(self, path: Path) -> None:
        from blemish.runtimes.export import export_onnx

        export_onnx(cast("TorchRuntime", self.runtime).method, path, self.preprocess.output_size)

    def _publish(self, target: Path, files: Mapping[str, str]) -> None:
        """Make this model, whose files are in the folder, the folder's model."""
        manifest = self.manifest.changed(files=dict(files))
        write_manifest(manifest, target)
        self.manifest, self._saved = manifest, (target, manifest)


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
    if runtime not in RUNTIMES:
        raise ModelError(
            "There is no runtime {runtime!r}. Choose one of: {runtimes}.",
            runtime=runtime,
            runtimes=", ".join(RUNTIMES),
        )
    if runtime == "onnx" and device not in ("auto", "cpu"):
        raise ModelError(
            "The onnx runtime runs on the CPU only, not on {device!r}. Leave the device out.", device=device
        )
    read = partial(_load_onnx, folder) if runtime == "onnx" else partial(_load_torch, folder, device)
    return read_consistently(folder, read)


def _load_onnx(folder: Path, manifest: Manifest) -> Model:
    from blemish.runtimes.onnx import OnnxRuntime  # needs the extra `onnx`

    require_current_graph(folder, manifest.format)
    return Model(manifest, OnnxRuntime(checked_file(folder, manifest, GRAPH)))


def _load_torch(folder: Path, device: str, manifest: Manifest) -> Model:
    if manifest.method not in method_names():
        raise MethodError(
            "{folder} was fitted with the method {method!r:.80}, which is not known here. Import the module "
            "that calls blemish.register_method, or install the package that offers the method, before loading.",
            folder=folder,
            method=manifest.method,
        )
    cls = find_method(manifest.method)
    missing = sorted(cls.declared.arguments.keys() - manifest.arguments.keys())
    if missing and manifest.format != NORMALISED:  # a default could give other scores
        raise ModelError(
            "{folder} lacks the arguments {missing} of {method}: it is damaged, or another "
            "version of the method wrote it. Copy the model folder again, or fit again.",
            folder=folder / FILE,
            missing=", ".join(missing),
            method=manifest.method,
        )
    from blemish.runtimes.torch import TorchRuntime, load_method, resolve_device

    upgrade = partial(upgrade_weights, manifest.format, manifest.method)
    method = load_method(cls, manifest.arguments, checked_file(folder, manifest, WEIGHTS), upgrade)
    current = manifest.changed(format=FORMAT, arguments=method.arguments)
    model = Model(current, TorchRuntime(method, resolve_device(device)))
    model._saved = resolved(folder), manifest
    return model
