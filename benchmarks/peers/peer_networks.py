"""Networks in the environment of the others: torchvision beside a torch for CPUs, weights, one image at a time."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from benchmarks.peers.process import Json
from torch import Tensor, nn

SAFETENSORS_FLOAT32 = "F32"
OPERATORS: list[torch.library.Library] = []
"""Keeps what `define_torchvision_operators` defined."""


def define_torchvision_operators() -> None:
    """Let torchvision be imported where it refuses to.

    Its usual wheel is compiled for a torch with CUDA. Beside a CPU one its compiled operators are absent: nothing
    measured here uses them, but the import asks for these two by name.
    """
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    OPERATORS.append(library)


def load_backbone(backbone: nn.Module, settings: Json, unread: tuple[str, ...] = ()) -> None:
    """Load the weights given, which may lack those of the parts in `unread`."""
    result = backbone.load_state_dict(read_safetensors(Path(settings["weights"])), strict=False)
    optional = tuple(f"{part}." for part in unread)
    absent = [
        name
        for name in result.missing_keys
        if not name.endswith("num_batches_tracked") and not name.startswith(optional)
    ]
    if absent or result.unexpected_keys:
        raise SystemExit(
            f"{settings['weights']} does not fit: {absent} absent, {result.unexpected_keys} left."
        )


def read_safetensors(path: Path) -> dict[str, Tensor]:
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


def scored(score_of: Callable[[Tensor], float], settings: Json) -> list[tuple[float, float]]:
    """Image score and seconds of each prepared test image, one by one, after three to warm up."""
    inputs = torch.from_numpy(np.load(settings["inputs"])["normalised"])
    found = []
    with torch.inference_mode():
        for index in (0, 0, 0, *range(len(inputs))):
            started = time.perf_counter()
            score = score_of(inputs[index : index + 1])
            found.append((score, time.perf_counter() - started))
    return found[3:]
