"""A product small enough to be learned in milliseconds: its images, defects, and a method for it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import blemish
from blemish.blocks.padding import mask_grid, split_padding
from blemish.data.images import write_image
from blemish.data.preprocess import Preprocess
from blemish.methods.arguments import argument
from blemish.methods.base import Method
from blemish.model import Model
from blemish.types import Prediction, Sample
from model_folder import stored

SMALL = Preprocess(size=(32, 40))


class Average(Method):
    """Absolute difference from the average normal image."""

    gain: float = argument(1.0, "Factor of the anomaly map.", gt=0)

    def build(self) -> None:
        self.average: Tensor  # (3, H, W)
        self.register_buffer("average", torch.empty(0))

    def collect(self, batches: Iterable[Tensor]) -> None:
        self.average = torch.cat([split_padding(images)[0] for images in batches]).mean(0)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        filled, visible = split_padding(images)
        anomaly_map = mask_grid(self.gain * (filled - self.average).abs().mean(1), visible)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)


class Spy(Average):
    """Keeps the images that it learns from."""

    def build(self) -> None:
        super().build()
        self.learned_images: list[NDArray[np.float32]] = []

    def collect(self, batches: Iterable[Tensor]) -> None:
        images = list(batches)
        self.learned_images = [image.numpy() for batch in images for image in batch]
        super().collect(images)


def draw_part(seed: int, size: tuple[int, int] = (48, 60), defect: float = 0.0) -> NDArray[np.uint8]:
    """One part, (H, W, 3): a dark disc on a grey plate with grain, and a square blot of a given strength."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    disc = (rows / height - 0.5) ** 2 + (columns / width - 0.4) ** 2 < 0.05
    grey = 150 - 80.0 * disc + np.random.default_rng(seed).normal(0, 4, size)
    grey[defect_place(size)] += 80 * defect
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def defect_place(size: tuple[int, int]) -> tuple[slice, slice]:
    """Where `draw_part` puts the blot."""
    height, width = size
    return slice(height // 2, 3 * height // 4), slice(3 * width // 4, 7 * width // 8)


def normal_samples(folder: Path, count: int, first_seed: int = 0) -> list[Sample]:
    """Normal parts, written as files."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for seed in range(first_seed, first_seed + count):
        path = folder / f"{seed:03}.png"
        write_image(path, draw_part(seed))
        samples.append(Sample(path, 0, "train", category="disc"))
    return samples


def labelled_samples(folder: Path, masks: bool = True) -> list[Sample]:
    """Good and defective parts of differing sizes, the defects from faint to strong."""
    samples = []
    for index in range(24):
        size = (40 + 7 * (index % 4), 50 + 9 * (index % 3))
        strength = [0.0, 0.12, 0.0, 0.4][index % 4]
        path = folder / f"{index:02}.png"
        folder.mkdir(exist_ok=True)
        write_image(path, draw_part(1000 + index, size, strength))
        mask_path = folder / f"{index:02}_mask.png" if masks and strength else None
        if mask_path:
            mask = np.zeros(size, bool)
            mask[defect_place(size)] = True
            write_image(mask_path, mask)
        kind = "strong" if strength > 0.2 else "faint" if strength else "good"
        samples.append(Sample(path, int(strength > 0), "test", kind, mask_path))
    return samples


def fit(images: Any, method: Method | None = None, **options: Any) -> Model:
    """`blemish.fit` with small inputs, of `Average` unless another method is given."""
    return blemish.fit(method or Average(), images, preprocess=SMALL, **options)


def tiny_model(folder: Path, count: int = 8) -> Model:
    """`Average` that has learned; its name must be registered."""
    return fit(normal_samples(folder, count))


def saved_weights(model: Model, folder: Path) -> bytes:
    """The content of the file of weights; the model is saved in this folder."""
    return stored(model.save(folder)).read_bytes()
