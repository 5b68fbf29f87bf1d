"""A model whose runtime gives prescribed predictions."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.manifest import Manifest
from blemish.model import Model
from blemish.types import Prediction

Arrays = NDArray[np.float32]


class Scripted:
    """A runtime with a given prediction, for inputs of 32 × 40."""

    name = "scripted"
    device = "cpu"

    def __init__(self, answer: Callable[[Arrays], tuple[Any, Any]]) -> None:
        self.answer = answer

    def predict(self, images: Arrays) -> Prediction[Arrays]:
        return Prediction(*self.answer(images))


def scripted(
    manifest: Manifest, score: float = 1.0, peak: float = 1.0, at: tuple[int, int] = (3, 5)
) -> Model:
    """A model that gives every image this score and a flat map of 1 with one other value."""

    def answer(images: Arrays) -> tuple[Arrays, Arrays]:
        maps = np.ones((len(images), 32, 40), np.float32)
        maps[:, *at] = peak
        return np.full(len(images), score, np.float32), maps

    return Model(manifest, Scripted(answer))
