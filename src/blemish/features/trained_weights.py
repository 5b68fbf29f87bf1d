"""Weights that a fit has trained on auxiliary images, kept in the user's cache for the next fits with the same ones."""

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from blemish.errors import BlemishWarning
from blemish.features.download import cache_folder
from blemish.files import whole_file
from blemish.messages import message


def trained_file(name: str, values: Mapping[str, Any], tensors: Iterable[Tensor]) -> Path:
    """Path of the weights that these values and tensors decide, whether it exists or not.

    Args:
        name: Beginning of the file's name.
        values: JSON values.
        tensors: For example images and initial weights; their shapes count, too.
    """
    digest = _digest(tensors, json.dumps(values, sort_keys=True).encode())
    return cache_folder() / f"{name}-{digest}.safetensors"


def in_fixed_order(products: Iterable[Tensor]) -> list[Tensor]:
    """Images (N, 3, H, W) of products in an order that does not depend on that in which they are given."""
    return sorted(products, key=lambda images: _digest([images]))


def read_trained(path: Path, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor] | None:
    """The tensors of a file, or None if there is none of these names and shapes.

    Warns:
        BlemishWarning: The file is damaged.
    """
    if not path.is_file():
        return None
    try:
        state = load_file(os.fspath(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        wrong = str(error)
    else:
        fits = {name: tensor.shape for name, tensor in state.items()} == dict(shapes)
        if fits and all(t.dtype == torch.float32 and bool(t.isfinite().all()) for t in state.values()):
            return state
        wrong = message("its tensors are not those of the network, or not finite")
    text = message(
        "The trained weights in {path} are damaged: {wrong}. They are trained anew.", path=path, wrong=wrong
    )
    warnings.warn(text, BlemishWarning, stacklevel=3)
    return None


def keep_trained(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a file, whole or not at all.

    Warns:
        BlemishWarning: It cannot be written; the model that is being fitted does not need it.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            save_file(tensors, os.fspath(temporary))
    except OSError as error:
        text = message(
            "The trained weights cannot be kept in {path}: {error}. The next fit trains them again.",
            path=path,
            error=error.strerror or str(error),
        )
        warnings.warn(text, BlemishWarning, stacklevel=3)


def _digest(tensors: Iterable[Tensor], beginning: bytes = b"") -> str:
    """SHA-256 of a beginning, and of types, shapes and values of tensors."""
    digest = hashlib.sha256(beginning)
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
