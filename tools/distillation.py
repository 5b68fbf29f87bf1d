"""What the distilling tools share: images cut into crops, the training loop, writing of weights."""

import argparse
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.mixed_precision import mixed_precision
from blemish.features.normalisation import Normalise
from blemish.features.resnet import BATCH_NORM_EPS
from blemish.files import whole_file

NORMALISE = Normalise()


def new_parser(description: str | None, *, crops: int, epochs: int, batch: int) -> argparse.ArgumentParser:
    """The arguments of every distillation, with these defaults; the first is the folder of photos, then textures."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("textures", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=crops)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def split_files(photos: Path, textures: Path) -> tuple[list[Path], list[Path]]:
    """Every tenth picture, in the order of the names, is for testing."""
    files = sorted(photos.rglob("*.JPEG")) + sorted(textures.rglob("*.jpg"))
    if not files:
        raise SystemExit(
            f"No *.JPEG in {photos} and no *.jpg in {textures}: clone the two repositories first."
        )
    return [f for i, f in enumerate(files) if i % 10], files[::10]


def cut_crops(files: list[Path], count: int, seed: int, side: int) -> NDArray[np.uint8]:
    """Square crops of log-uniform size, (count, side, side, 3) RGB; photometric changes as in a factory."""
    rng = np.random.default_rng(seed)
    crops = np.empty((count, side, side, 3), np.uint8)
    order = [i for _ in range(-(-count // len(files))) for i in rng.permutation(len(files))][:count]
    slots: dict[int, list[int]] = {}
    for slot, i in enumerate(order):
        slots.setdefault(int(i), []).append(slot)
    for i, places in slots.items():  # every picture is decoded once
        picture = cv2.imdecode(np.frombuffer(files[i].read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
        assert picture is not None, files[i]
        for slot in places:
            crops[slot] = one_crop(picture.astype(np.uint8, copy=False), rng, side)
    return crops


def one_crop(picture: NDArray[np.uint8], rng: np.random.Generator, to: int) -> NDArray[np.uint8]:
    """A random square, resized, flipped, now and then grey, dim, blurred or noisy."""
    height, width = picture.shape[:2]
    side = int(math.exp(rng.uniform(math.log(72), math.log(max(min(height, width), 73)))))
    side = min(side, height, width)
    y, x = rng.integers(height - side + 1), rng.integers(width - side + 1)
    square = picture[y : y + side, x : x + side]
    shrinks = side > to
    crop = cv2.resize(square, (to, to), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    value: NDArray[Any] = crop.astype(np.float32)
    if rng.random() < 0.2:
        value = np.repeat(value.mean(2, keepdims=True), 3, axis=2)
    if rng.random() < 0.5:
        value = (value - 128) * rng.uniform(0.4, 1.3) + 128 + rng.uniform(-60, 60)
    if rng.random() < 0.15:
        value = np.asarray(cv2.GaussianBlur(value, (0, 0), rng.uniform(0.5, 2.0)))
    if rng.random() < 0.15:
        value = value + rng.normal(0, rng.uniform(1, 8), value.shape)
    cut: NDArray[np.uint8] = np.clip(np.rint(value), 0, 255).astype(np.uint8)
    return cut


def as_images(crops: NDArray[np.uint8]) -> Tensor:
    """RGB in [0, 1], (N, 3, side, side)."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def as_input(crops: NDArray[np.uint8]) -> Tensor:
    """What a network without a normalisation of its own takes, (N, 3, side, side)."""
    normalised: Tensor = NORMALISE(as_images(crops))
    return normalised.contiguous(memory_format=torch.channels_last)


def train(
    student: nn.Module,
    crops: NDArray[np.uint8],
    targets: Mapping[int, Tensor],
    *,
    epochs: int,
    batch: int,
    learning_rate: float,
    seed: int,
) -> Iterator[list[float]]:
    """AdamW under a one-cycle schedule; after every epoch: its number, steps and seconds so far, mean loss.

    The student's forward returns a map under each of the targets' keys.
    """
    steps = len(crops) // batch
    optimizer = torch.optim.AdamW(student.parameters(), lr=learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps * epochs, pct_start=0.15
    )
    rng = np.random.default_rng(seed)
    started = time.monotonic()
    for epoch in range(epochs):
        order = rng.permutation(len(crops))
        losses = []
        student.train()
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            with mixed_precision(torch.device("cpu")):
                outputs = student(as_input(crops[chosen]))
            loss = sum_of_losses(outputs, {k: t[torch.from_numpy(chosen)] for k, t in targets.items()})
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if step % 50 == 0:
                seconds, recent = time.monotonic() - started, float(np.mean(losses[-50:]))
                print(f"epoch {epoch} step {step}/{steps} {seconds:.0f} s {recent:.4f}", flush=True)
        yield [epoch, steps * (epoch + 1), round(time.monotonic() - started), float(np.mean(losses))]


def sum_of_losses(outputs: Mapping[int, Tensor], targets: Mapping[int, Tensor]) -> Tensor:
    """Mean squared error of each layer, added."""
    return torch.stack([functional.mse_loss(outputs[k].float(), targets[k].float()) for k in targets]).sum()


@torch.inference_mode()
def student_maps(student: nn.Module, crops: NDArray[np.uint8], batch: int = 32) -> dict[int, Tensor]:
    """All outputs for crops, in evaluation mode."""
    student.eval()
    found: dict[int, list[Tensor]] = {}
    for start in range(0, len(crops), batch):
        for key, maps in student(as_input(crops[start : start + batch])).items():
            found.setdefault(key, []).append(maps)
    return {key: torch.cat(maps) for key, maps in found.items()}


def without_batch_norm(trained: nn.Sequential) -> dict[str, Tensor]:
    """Weight and bias of one convolution equal to a convolution without bias and the batch norm after it."""
    convolution, norm = trained
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight.detach() * torch.rsqrt(norm.running_var + BATCH_NORM_EPS)
    weight = convolution.weight.detach() * scale.view(-1, 1, 1, 1)
    return {"weight": weight, "bias": norm.bias.detach() - norm.running_mean * scale}


def write_half(network: nn.Module, path: Path) -> None:
    """Save in half precision, whole or not at all."""
    with whole_file(path) as aside:
        save_file({key: value.half().contiguous() for key, value in network.state_dict().items()}, aside)
