"""Reads and writes manifest.json: all of a model folder that is not weights. Every entry is checked when read."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from blemish.calibration import Calibration
from blemish.data.preprocess import Preprocess
from blemish.errors import ModelError
from blemish.files import sha256_of, write_whole

FORMAT = 1
"""Version of the format; raised when older versions of blemish cannot read what is written."""
FILE = "manifest.json"
WEIGHTS = "weights.safetensors"
GRAPH = "model.onnx"
LARGEST = 64 * 2**20
"""Largest manifest that is read, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Manifest:
    """Everything about a model except its weights."""

    method: str
    """Name in the catalogue or of a plug-in."""
    arguments: Mapping[str, Any]
    preprocess: Preprocess
    calibration: Calibration
    seed: int
    data: Mapping[str, Any]
    """The training images: category, counts, fingerprint, each one's content hash, and the names of those learned
    from in the order they were shown to the method."""
    history: Mapping[str, Any] = field(default_factory=dict)
    """Record of the training: seconds, losses."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Name of each other file of the folder → its sha256."""
    blemish: str = field(default_factory=lambda: version("blemish"))
    """Version that wrote the folder."""
    format: int = FORMAT

    def describe(self) -> str:
        """What the model is made of, one line for each thing."""
        preprocess, calibration, data = self.preprocess, self.calibration, self.data
        height, width = preprocess.size
        crop = (
            ""
            if preprocess.crop is None
            else f", the middle {preprocess.crop[0]} × {preprocess.crop[1]} kept"
        )
        lines = {
            "method": self.method,
            **{f"  {name}": value for name, value in self.arguments.items()},
            "category": data.get("category") or "–",
            "learned from": f"{data.get('learned_from')} images (seed {self.seed})",
            "held out": f"{data.get('held_out')} images",
            "skipped": f"{data.get('skipped')} unreadable images",
            "data": f"fingerprint {str(data.get('fingerprint'))[:16]}",
            "input": f"{height} × {width} pixels (height × width), {preprocess.resize}{crop}",
            "image threshold": f"{calibration.image_threshold:.6g}",
            "pixel threshold": f"{calibration.pixel_threshold:.6g}",
            "": calibration.summary(),
            "files": ", ".join(self.files),
            "written by": f"blemish {self.blemish}, format {self.format}",
        }
        return "\n".join(f"{name:<17} {value}" for name, value in lines.items())

    def __repr__(self) -> str:
        return (
            f"Manifest(method={self.method!r:.40}, category={self.data.get('category')!r:.80}, "
            f"learned_from={self.data.get('learned_from')!r:.20}, seed={self.seed},\n"
            f"  arguments={dict(self.arguments)!r:.200},\n  {self.preprocess!r},\n  {self.calibration!r})"
        )

    def to_dict(self) -> dict[str, Any]:
        """The entries as JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"preprocess": self.preprocess.to_dict(), "calibration": self.calibration.to_dict()}

    @classmethod
    def from_dict(cls, values: Any) -> "Manifest":
        """A manifest from the entries that `to_dict` gives.

        Raises:
            ModelError: If anything is missing, unknown or of the wrong kind.
        """
        if not isinstance(values, dict):
            raise ModelError("The manifest is not a JSON object. The model folder is damaged; copy it again.")
        found = values.get("format")
        if type(found) is int and found > FORMAT:
            raise ModelError(
                f"The model has format {found}, this blemish reads up to {FORMAT}. Update blemish to load it."
            )
        kinds: dict[str, type] = {
            "format": int, "blemish": str, "method": str, "arguments": dict, "preprocess": dict,
            "calibration": dict, "seed": int, "data": dict, "history": dict, "files": dict,
        }  # fmt: skip
        wrong = sorted(kinds.keys() ^ values.keys())
        wrong += [key for key, kind in kinds.items() if key in values and type(values[key]) is not kind]
        if not wrong and values["format"] < 1:
            wrong = ["format"]
        if not wrong:
            wrong = [
                f"data.{key}"
                for key in ("hashes", "images")
                if not _is_list_of_text(values["data"].get(key, []))
            ]
        if wrong:
            raise ModelError(
                f"The manifest's entries {', '.join(wrong):.200} are missing, unknown or of the wrong kind. "
                "The model folder is damaged; copy it again or fit anew."
            )
        stray = [name for name in values["files"] if name not in (WEIGHTS, GRAPH)]
        if stray:
            raise ModelError(
                f"The manifest lists the file {stray[0]!r:.80}, but a model holds only {WEIGHTS} and {GRAPH}. "
                "Do not use this folder unless you trust where it comes from; fit anew."
            )
        preprocess = Preprocess.from_dict(values["preprocess"])
        calibration = Calibration.from_dict(values["calibration"])
        return cls(**{**values, "preprocess": preprocess, "calibration": calibration})


def read_manifest(folder: Path) -> Manifest:
    """Read a model folder's manifest.

    Raises:
        ModelError: If it is absent, damaged, too large or from a newer version.
    """
    path = folder / FILE
    if not path.is_file():
        raise ModelError(
            f"{folder} is not a model: it has no {FILE}. Name a folder that `blemish fit` wrote."
        )
    if path.stat().st_size > LARGEST:
        raise ModelError(f"{path} is larger than {LARGEST // 2**20} MiB, which no manifest is. Fit anew.")
    try:
        return Manifest.from_dict(
            json.loads(path.read_text("utf-8"), parse_constant=_finite, parse_float=_finite)
        )
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} is not valid JSON: {error}. The model folder is damaged; copy it again."
        ) from error


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write a model folder's manifest, whole or not at all."""
    text = json.dumps(manifest.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(folder / FILE, text + "\n")


def checked_file(folder: Path, manifest: Manifest, name: str) -> Path:
    """The path of one of the model's files, after comparing its sha256.

    Raises:
        ModelError: If the manifest does not list it, it is absent, or its content is another.
    """
    if name not in manifest.files:
        raise ModelError(f"{folder} holds no {name}. Export the model to that runtime first, or use another.")
    path = folder / name
    if not path.is_file():
        raise ModelError(f"{path} is missing. The model folder is incomplete; copy it again.")
    if sha256_of(path) != manifest.files[name]:
        raise ModelError(
            f"{path} is not the file the manifest describes (sha256 differs). Copy the folder again."
        )
    return path


def _finite(text: str) -> float:
    """A finite number; JSON has no NaN and no infinity, but Python reads both, and 1e999 as infinity."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.20} is not a finite number")
    return number


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
