"""The records that all parts of blemish exchange. They know numpy, never torch.

Shape letters, everywhere: N images, C channels, H W pixels, h w feature grid, D embedding size,
K neighbours, M patches in a memory bank.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8] | NDArray[np.uint16]
"""A decoded image: (H, W, 3) RGB, uint8 or uint16, from 0 to the largest value of its type."""

Map = NDArray[np.float32]
"""An anomaly map: (H, W), higher is more anomalous, in the method's own unit."""

Mask = NDArray[np.bool_]
"""Defective pixels: (H, W), True where defective."""

Split = Literal["train", "test"]
Verdict = Literal["OK", "REVIEW", "NG", "INVALID"]
"""REVIEW: a person decides. INVALID: the image cannot be judged; like NG, it is not OK."""

ArrayT = TypeVar("ArrayT")


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a data set."""

    path: Path
    label: int
    """0 normal, 1 anomalous."""
    split: Split
    defect_type: str = "good"
    """"good" for normal images, otherwise the name of the defect (MVTec's test folder)."""
    mask_path: Path | None = None
    category: str = ""


class Prediction(NamedTuple, Generic[ArrayT]):
    """Raw scores and anomaly maps of a batch, without a threshold. Tensors inside methods, numpy arrays outside."""

    score: ArrayT
    """(N,) float32, higher is more anomalous, in the method's own unit."""
    anomaly_map: ArrayT
    """(N, H, W) float32 at the size of the network's input."""


class Progress(Protocol):
    """Called during long work; `total` is None if unknown, `note` is free text, such as the losses so far."""

    def __call__(self, phase: str, done: int, total: int | None, note: str = "", /) -> None:  # noqa: D102
        ...


def no_progress(phase: str, done: int, total: int | None, note: str = "", /) -> None:
    """Default of every `progress` argument: reports nothing."""


class Watch(Protocol):
    """Called at the end of each epoch with its number, from 0, and its mean losses."""

    def __call__(self, epoch: int, losses: Mapping[str, float], /) -> None:  # noqa: D102
        ...


def no_watch(epoch: int, losses: Mapping[str, float], /) -> None:
    """Default of every `watch` argument: does nothing."""
