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
"""A decoded picture: (H, W, 3) RGB, uint8 or uint16, the full range of its type."""

Map = NDArray[np.float32]
"""An anomaly map: (H, W), higher is more anomalous, in the method's own unit."""

Mask = NDArray[np.bool_]
"""Defective pixels: (H, W), True where defective."""

Split = Literal["train", "test"]
Verdict = Literal["OK", "NG"]

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
    """What a method says of a batch; holds no threshold. Tensors inside methods, numpy arrays outside."""

    score: ArrayT
    """(N,) float32, higher is more anomalous, in the method's own unit."""
    anomaly_map: ArrayT
    """(N, H, W) float32 at the size of the network's input."""


class Progress(Protocol):
    """Called while something lasts; `total` is None where unknown, `note` says how well it goes."""

    def __call__(self, phase: str, done: int, total: int | None, note: str = "", /) -> None:  # noqa: D102
        ...


def no_progress(phase: str, done: int, total: int | None, note: str = "", /) -> None:
    """The silent default of every `progress` argument."""


class Watch(Protocol):
    """Called with the number, from 0, and the losses of each epoch that ended."""

    def __call__(self, epoch: int, losses: Mapping[str, float], /) -> None:  # noqa: D102
        ...


def no_watch(epoch: int, losses: Mapping[str, float], /) -> None:
    """The default of every `watch` argument."""
