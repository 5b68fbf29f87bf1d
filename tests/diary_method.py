"""A method that records which hooks are called, and images for it."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.methods.arguments import argument
from blemish.methods.base import Method
from blemish.types import Prediction

Arrays = NDArray[np.float32]


def images(count: int) -> Arrays:
    return np.random.default_rng(0).normal(size=(count, 3, 8, 8)).astype(np.float32)


class Diary(Method):
    """Writes down what happens to it."""

    batch_size = 4
    epochs: int = argument(0, "Passes.")

    def build(self) -> None:
        self.diary: list[tuple[str, list[int], bool, bool]] = []
        self.weight = nn.Parameter(torch.zeros(1))

    def note(self, hook: str, passed: Iterable[Tensor]) -> None:
        counts = [len(images) for images in passed]
        self.diary.append((hook, counts, torch.is_grad_enabled(), self.training))

    def collect(self, batches: Iterable[Tensor]) -> None:
        self.note("collect", batches)

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        self.note("prepare", [images])
        return (images,)

    def training_loss(self, images: Tensor) -> Tensor | Mapping[str, Tensor]:
        self.note("training_loss", [images])
        return (self.weight - images.mean()).square().sum()

    def finish(self, batches: Iterable[Tensor]) -> None:
        self.note("finish", batches)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        grid = images.mean(1) - self.weight
        return Prediction(grid.flatten(1).amax(1), grid)
