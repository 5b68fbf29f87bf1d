"""Reads model folders of formats 1 to 5 as format 6 if that gives the same scores; no other module knows them.

In format 1 methods learned from images normalised by `preprocess.mean` and `preprocess.std`; now they get RGB in
[0, 1], and the normalisation is part of the weights. Format 2 lacks `resolution`. Format 3 lacks arguments that were
added since, and the networks of some methods differ. Format 4 lacks groups of images. In format 5 regions did not
grow, and there were neither rules nor certificates.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from blemish.errors import ModelError
from blemish.features import imagenet

NORMALISED = 1
"""The format whose preprocessing normalised the images."""
UNGROUPED = 4
"""The last format without groups of images."""

EXACT = (
    *("patchcore", "padim", "simplenet", "efficientad", "reconpatch", "autoencoder"),
    *("denoising_autoencoder", "vae", "anogan", "f_anogan", "ganomaly"),
)
"""Methods whose networks get the same input in both formats. Others learned grey values of normalised images."""

VALUES: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("patchcore", "coreset"): {"net": "streaming"},
    ("reconpatch", "coreset"): {"net": "streaming"},
}
"""Method and argument → former value → value."""
ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "anogan": {"critic_learning_rate": "discriminator_learning_rate"}
}
"""Method → former name of an argument → name."""
DROPPED: Mapping[str, Mapping[str, float]] = {
    "simplenet": {"margin": 0.5},
    "reconpatch": {"projection": 128, "similar": 5, "bandwidth": 0.3, "margin": 1.0},
}
"""Method → arguments that are constants now, with their values."""
ADDED: Mapping[str, Mapping[str, Any]] = {
    "padim": {"absolute_ridge": False},
    "reconpatch": {"steps": 0},
    **{
        name: {"relative": False}
        for name in ("autoencoder", "denoising_autoencoder", "vae", "anogan", "f_anogan", "ganomaly")
    },
}
"""Method → arguments that formats up to 3 lack, with the values that they had as constants."""
CHANGED = ("fastflow", "msflow", "cyclegan")
"""Methods whose networks compute something else since format 4 (`UNGROUPED`)."""
PREFIXES: Mapping[str, Mapping[str, str]] = {
    "anogan": {"critic.": "discriminator."},
    "ganomaly": {"critic.": "discriminator."},
}
"""Method → former beginning of tensors' names → beginning."""


def upgrade_manifest(text: str) -> str:
    """The text of a manifest of formats 1 to 5 with the entries of format 6; `format` stays, as the weights do.

    Raises:
        ModelError: If the learned values cannot be used in format 6.
    """
    values = json.loads(text)
    method, arguments = values.get("method"), values.get("arguments")
    if method in CHANGED and values["format"] < UNGROUPED:
        raise ModelError(
            "The model was written in format {format}; since then the networks of {method} have changed. Fit again.",
            format=values["format"],
            method=method,
        )
    if values["format"] == NORMALISED:
        _upgrade_normalised(values)
    if isinstance(method, str) and isinstance(arguments, dict):
        values["arguments"] = ADDED.get(method, {}) | values["arguments"]
    _add_groups(values)
    _add_thresholds(values)
    if isinstance(preprocess := values.get("preprocess"), dict):
        values["preprocess"] = {"ignored": None} | preprocess
    return json.dumps({"resolution": None, "rules": None, "certificate": None, **values})


def _add_groups(values: Any) -> None:
    """Add that every image is a group by itself, and that the thresholds rest on held-out images."""
    calibration, data = values.get("calibration"), values.get("data")
    if isinstance(calibration, dict) and isinstance(scores := calibration.get("normal_scores"), list):
        values["calibration"] = {"groups": [*range(len(scores))], "held_out": True} | calibration
    if isinstance(data, dict) and isinstance(images := data.get("images"), list):
        values["data"] = {"groups": [*range(len(images))], "group_by": "none"} | data


def _add_thresholds(values: Any) -> None:
    """Add that there is no review, and that the false-alarm rate is the expected one."""
    if isinstance(calibration := values.get("calibration"), dict):
        values["calibration"] = {"review_threshold": None, "confidence": None} | calibration


def _upgrade_normalised(values: Any) -> None:
    """Change the entries of a manifest of format 1 to those of format 2."""
    method, preprocess, history = (values.get(key) for key in ("method", "preprocess", "history"))
    arguments = values.get("arguments")
    if not (isinstance(method, str) and all(isinstance(v, dict) for v in (arguments, preprocess, history))):
        return  # damaged; reading it raises the error
    if method not in EXACT:
        raise ModelError(
            "The model was written in format 1, in which {method:.40} learned from normalised images. Fit again.",
            method=method,
        )
    if (preprocess.pop("mean", None), preprocess.pop("std", None)) != ([*imagenet.MEAN], [*imagenet.STD]):
        raise ModelError(
            "The model was written in format 1 with its own mean and std in preprocess, which now belong to the "
            "backbone. Fit again."
        )
    for name, value in DROPPED.get(method, {}).items():
        if arguments.pop(name, value) != value:
            raise ModelError(
                "The model was written in format 1 with {name} other than {value}, which is a constant now. Fit anew.",
                name=name,
                value=value,
            )
    names = ARGUMENTS.get(method, {})
    values["arguments"] = {names.get(k, k): _renamed(method, k, v) for k, v in arguments.items()}
    updates = history.get("updates", [])
    if isinstance(updates, list):
        blank = {"added": 0, "removed": 0, "seconds": 0.0}
        history["updates"] = [blank | event if isinstance(event, dict) else event for event in updates]


def upgrade_weights(
    folder_format: int, method: str, state: Mapping[str, Any], names: Iterable[str]
) -> Mapping[str, Any]:
    """The tensors of a model under their present names, with the normalisation that format 1 lacks.

    Args:
        folder_format: Format of its folder.
        method: Its name.
        state: Tensors as the file holds them.
        names: Names of the tensors that the method has now.
    """
    if folder_format != NORMALISED:
        return state
    from blemish.features.normalisation import Normalise  # torch is not needed to read a manifest

    prefixes = PREFIXES.get(method, {})
    upgraded = {}
    for name, tensor in state.items():
        former = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        upgraded[prefixes.get(former, "") + name.removeprefix(former)] = tensor
    for leaf, tensor in Normalise().state_dict().items():
        upgraded |= {name: tensor for name in names if name.endswith(f"normalise.{leaf}")}
    return upgraded


def require_current_graph(folder: Path, folder_format: int) -> None:
    """Check that the graph of a folder of format `folder_format` takes RGB in [0, 1].

    Raises:
        ModelError: If it takes normalised images.
    """
    if folder_format == NORMALISED:
        raise ModelError(
            "The graph in {folder} was exported in format 1 and takes normalised images. Export it again: "
            "blemish.load(FOLDER).save(FOLDER, onnx=True).",
            folder=folder,
        )


def require_current_weights(folder: Path, folder_format: int) -> None:
    """Check that the manifest of a folder of format `folder_format` can be replaced without the weights.

    Raises:
        ModelError: If it cannot.
    """
    if folder_format == NORMALISED:
        raise ModelError(
            "{folder} was written in format 1, whose manifest cannot be changed without the weights. Load and "
            "save it once: blemish.load(FOLDER).save(FOLDER).",
            folder=folder,
        )


def _renamed(method: str, argument: str, value: Any) -> Any:
    return VALUES.get((method, argument), {}).get(value, value) if isinstance(value, str) else value
