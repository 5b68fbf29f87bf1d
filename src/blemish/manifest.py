"""Reads and writes manifest.json, which holds all of a model but its weights; every entry is checked on reading."""

import json
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from blemish.calibration import Calibration
from blemish.calibration.certificate import Certificate, policy_fingerprint
from blemish.data.content import HASH_DIGITS
from blemish.data.input_size import Resolution
from blemish.data.preprocess import Preprocess
from blemish.errors import ModelError
from blemish.files import write_whole
from blemish.manifest_description import describe
from blemish.manifest_upgrade import upgrade_manifest
from blemish.messages import message
from blemish.records import Record
from blemish.rules import Rules

FORMAT = 6
"""Version of the format; raised when older versions of blemish cannot read what is written."""
FILE = "manifest.json"
FORMER = "former.json"
"""The manifest before the latest update."""
WEIGHTS = "weights.safetensors"
GRAPH = "model.onnx"
LARGEST = 64 * 2**20
"""Largest manifest that is read, in bytes."""


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    """The values as JSON returns them, tuples as lists; ValueError if JSON cannot hold them."""
    try:
        text = json.dumps(values, ensure_ascii=False, allow_nan=False)
        text.encode()  # fails on lone surrogates
    except TypeError as error:
        raise ValueError from error
    plain: dict[str, Any] = json.loads(text)
    return plain


Arguments = Annotated[dict[str, Any], AfterValidator(_as_json)]
Text = Annotated[str, Field(description="text")]
Count = Annotated[int, Field(ge=0, description="a whole number, not negative")]
Seconds = Annotated[float, Field(ge=0, description="a finite number, not negative")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="64 hex digits")]
ShortHash = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{HASH_DIGITS}}}$")]


class TrainingData(Record):
    """The normal images that a model was fitted on."""

    category: Text
    learned_from: Count
    held_out: Count
    skipped: Count
    """Number of images that could not be decoded."""
    excluded: Count = 0
    """Number of images that the user left out."""
    images: tuple[str, ...] = Field(description="a list of text")
    """Names of the images learned from, in the order of training."""
    group_by: Text
    """How images were grouped: "none", "found", "folder", "labels" or a regular expression."""
    groups: tuple[int, ...] = Field(description="a list of whole numbers")
    """Number of the group of each image learned from: the part, lot or run that it is of."""
    fingerprint: Sha256
    hashes: tuple[ShortHash, ...] = Field(description=f"a list of {HASH_DIGITS} hex digits each")
    """First digits of the sha256 of each image, learned from or held out."""

    @model_validator(mode="after")
    def _require_equal_counts(self) -> Self:
        lengths = len(self.images), len(self.groups), len(self.hashes)
        if lengths != (self.learned_from, self.learned_from, self.learned_from + self.held_out):
            raise ValueError(
                message(
                    "learned_from {learned_from} and held_out {held_out} must be the numbers of images "
                    "({names} names, {groups} groups, {hashes} hashes)",
                    learned_from=self.learned_from,
                    held_out=self.held_out,
                    names=len(self.images),
                    groups=len(self.groups),
                    hashes=len(self.hashes),
                )
            )
        return self

    def describe_groups(self) -> str:
        """Which images belong together, as one sentence; empty if each is by itself."""
        sizes = Counter(self.groups).values()
        if len(sizes) == len(self.groups):
            return ""
        rule = message("near-copies and runs, found") if self.group_by == "found" else self.group_by
        return message(
            "The images learned from are in {groups} groups of up to {largest} that belong together ({rule}).",
            groups=len(sizes),
            largest=max(sizes),
            rule=rule,
        )


class Update(Record):
    """One update of a model after it was fitted."""

    added: Count = 0
    """Images."""
    removed: Count = 0
    """Number of patches, or of other units of the method, that were removed."""
    seconds: Seconds


class History(Record):
    """Record of training and of later updates."""

    seconds: Seconds
    losses: tuple[dict[str, float], ...] = Field(
        default=(), description="a list of objects with finite numbers"
    )
    """Mean losses of each epoch, by name."""
    updates: tuple[Update, ...] = Field(
        default=(), description="a list of objects with added, removed and seconds"
    )


class Manifest(Record):
    """Everything of a model but its weights."""

    method: Text
    """Name in the catalogue or of a plug-in."""
    arguments: Arguments = Field(description="an object that JSON can hold, without NaN or infinity")
    preprocess: Preprocess
    resolution: Resolution | None = Field(
        default=None, description="null, or an object with image_size, cell and smallest_defect"
    )
    """None if it was not known, as in folders of former formats."""
    calibration: Calibration
    rules: Rules | None = Field(default=None, description="null or an object")
    """None: the score alone decides."""
    certificate: Certificate | None = Field(default=None, description="null or an object")
    """The latest one; it is void if anything that decides verdicts has changed since: see `policy`."""
    seed: int = Field(ge=0, lt=2**64, description="a whole number from 0 to below 2^64")
    data: TrainingData
    history: History
    files: dict[Literal["weights.safetensors", "model.onnx"], Sha256] = Field(
        default={},
        description=f"the sha256 (64 hex digits) of {WEIGHTS} and {GRAPH}, the only files of a model",
    )
    blemish: Text = Field(default_factory=lambda: version("blemish"))
    """Version that wrote the folder."""
    format: int = Field(default=FORMAT, ge=1, le=FORMAT, description=f"a whole number from 1 to {FORMAT}")
    """Format of the folder that was read; folders are written in the newest one."""

    @property
    def policy(self) -> str:
        """Fingerprint of all that decides verdicts: weights, preprocessing, thresholds and rules."""
        calibration = self.calibration
        return policy_fingerprint(
            {
                "weights": dict(self.files),
                "preprocess": self.preprocess.to_dict(),
                "thresholds": [
                    *(calibration.image_threshold, calibration.review_threshold, calibration.pixel_threshold),
                    calibration.map_typical,
                ],
                "rules": None if self.rules is None else self.rules.to_dict(),
            }
        )

    @property
    def valid_certificate(self) -> Certificate | None:
        """The certificate, unless it is void."""
        return self.certificate if self.certificate and self.certificate.is_valid_for(self.policy) else None

    def describe(self) -> str:
        """The model's entries as text, one line each."""
        return describe(self)

    def __repr__(self) -> str:
        return (
            f"Manifest(method={self.method!r:.40}, category={self.data.category!r:.80}, "
            f"learned_from={self.data.learned_from!r:.20}, seed={self.seed},\n"
            f"  arguments={dict(self.arguments)!r:.200},\n  {self.preprocess!r},\n  {self.calibration!r})"
        )


class _Marks(BaseModel):
    """The entries by which a manifest is told from other files of its name."""

    format: Any
    blemish: Any
    method: Any
    calibration: Any


class _Format(BaseModel):
    """The entry that is read before all others."""

    model_config = ConfigDict(strict=True)

    format: int


def read_manifest(folder: Path, name: str = FILE) -> Manifest:
    """Read a model folder's manifest.

    Args:
        folder: The model.
        name: `FILE`, or `FORMER` for the version before the latest update.

    Raises:
        ModelError: If it is absent, damaged, too large or from a newer version, or of an old format that cannot be
            read exactly.
    """
    path = folder / name
    if not path.is_file():
        raise ModelError(
            "{folder} is not a model: it has no {name}. Name a folder that `blemish fit` wrote.",
            folder=folder,
            name=name,
        )
    if path.stat().st_size > LARGEST:
        raise ModelError(
            "{path} is larger than {largest} MiB, which no manifest is. Fit again.",
            path=path,
            largest=LARGEST // 2**20,
        )
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ModelError(
            "{path} cannot be read as text: {error}. Copy the model folder again.", path=path, error=error
        ) from error
    return parse_manifest(text, path)


def is_manifest(path: Path) -> bool:
    """Whether a file was written by some version of blemish as a manifest, whatever has become of its values."""
    try:
        _Marks.model_validate_json(path.read_bytes() if path.stat().st_size <= LARGEST else b"")
    except (OSError, ValidationError):
        return False
    return True


def parse_manifest(text: str, path: Path) -> Manifest:
    """A manifest from the text of its file, which errors call `path`.

    Raises:
        ModelError: If it is damaged, from a newer version, or of an old format that cannot be read exactly.
    """
    try:
        number = _Format.model_validate_json(text).format
    except ValidationError:
        number = FORMAT  # reported below, together with everything else that is wrong
    if number > FORMAT:
        raise ModelError(
            "The model has format {number!s:.20}, this blemish reads up to {format}. Update blemish to load it.",
            number=number,
            format=FORMAT,
        )
    try:
        return Manifest.from_json(upgrade_manifest(text) if 0 < number < FORMAT else text)
    except ValueError as error:
        raise ModelError(
            "{path} is damaged: {error} Copy the model folder again from a place that you trust, or fit again.",
            path=path,
            error=error,
        ) from error


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write a model folder's manifest, whole or not at all."""
    text = json.dumps(manifest.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(folder / FILE, text + "\n")
