"""Teach the `compact` backbone to predict the features of two ImageNet ResNets on photos and textures.

The command that made the embedded weights, from clones of the two public image repositories
EliSchwartz/imagenet-sample-images and pan8915/DeepTexture (`WEIGHTS` holds the two teachers' files):

    python tools/distill_compact.py PHOTOS TEXTURES WEIGHTS --out src/blemish/features/compact.safetensors \
        --log tools/distill_compact.csv --crops 20000 --epochs 10 --seed 0

Steps: cut crops; run both teachers on them once and keep the targets (stage 2 and 3, every channel
standardised; ResNet-50's reduced by PCA, unwhitened); fit the student to the targets by mean squared error;
fold its batch norms; turn each linear read-out W into the triangular R of W = QR, which keeps every distance
(‖Wa − Wb‖ = ‖Ra − Rb‖) in as few channels as the stage has. One image in ten is never trained on: the log
holds the share of the targets' variance explained there. No inspection data set is read.
"""

import argparse
import copy
import csv
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from blemish.features.compact import WIDTHS, Compact
from blemish.features.resnet import BATCH_NORM_EPS, DESIGNS, ResNet, fold_batch_norms

CROP = 160
KEPT = {("resnet18", 2): 128, ("resnet18", 3): 256, ("resnet50_caffe", 2): 128, ("resnet50_caffe", 3): 256}
"""Targets, and how many principal components of each are kept (ResNet-18's: all)."""
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def main() -> None:
    """Read the arguments, make the targets, train, write the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("textures", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=20000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    cv2.setNumThreads(1)
    torch.manual_seed(options.seed)
    train_files, test_files = split_files(options.photos, options.textures)
    teachers = {name: load_teacher(options.weights, name) for name in ("resnet18", "resnet50_caffe")}
    train_crops = cut_crops(train_files, options.crops, options.seed)
    test_crops = cut_crops(test_files, options.crops // 20, options.seed + 1)
    projections = fit_projections(teachers, train_crops[:1024])
    train_targets = make_targets(teachers, projections, train_crops)
    test_targets = make_targets(teachers, projections, test_crops)

    student = training_student()
    with options.log.open("w", newline="") as file:
        log = csv.writer(file)
        columns = [f"explained_{name}_layer{layer}" for name, layer in KEPT]
        log.writerow(["epoch", "step", "seconds", "train_loss", "test_loss", *columns])
        for row in train(student, train_crops, train_targets, test_crops, test_targets, options):
            log.writerow(row)
            file.flush()
            print(*row, flush=True)
            write_weights(student, options.out)


def split_files(photos: Path, textures: Path) -> tuple[list[Path], list[Path]]:
    """Every tenth picture, in the order of the names, is for testing."""
    files = sorted(photos.rglob("*.JPEG")) + sorted(textures.rglob("*.jpg"))
    if not files:
        raise SystemExit(
            f"No *.JPEG in {photos} and no *.jpg in {textures}: clone the two repositories first."
        )
    return [f for i, f in enumerate(files) if i % 10], files[::10]


def cut_crops(files: list[Path], count: int, seed: int) -> NDArray[np.uint8]:
    """Square crops of log-uniform size, (count, CROP, CROP, 3) RGB; photometric changes as in a factory."""
    rng = np.random.default_rng(seed)
    crops = np.empty((count, CROP, CROP, 3), np.uint8)
    order = [i for _ in range(-(-count // len(files))) for i in rng.permutation(len(files))][:count]
    slots: dict[int, list[int]] = {}
    for slot, i in enumerate(order):
        slots.setdefault(int(i), []).append(slot)
    for i, places in slots.items():  # every picture is decoded once
        picture = cv2.imdecode(np.frombuffer(files[i].read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
        assert picture is not None, files[i]
        for slot in places:
            crops[slot] = one_crop(picture.astype(np.uint8, copy=False), rng)
    return crops


def one_crop(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random square, resized, flipped, now and then grey, dim, blurred or noisy."""
    height, width = picture.shape[:2]
    side = int(math.exp(rng.uniform(math.log(72), math.log(max(min(height, width), 73)))))
    side = min(side, height, width)
    y, x = rng.integers(height - side + 1), rng.integers(width - side + 1)
    square = picture[y : y + side, x : x + side]
    shrinks = side > CROP
    crop = cv2.resize(square, (CROP, CROP), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
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


def load_teacher(weights: Path, name: str) -> ResNet:
    """A teacher up to stage 3."""
    teacher = ResNet(DESIGNS[name], 3)
    state = fold_batch_norms(load_file(weights / f"{name}.safetensors"))
    teacher.load_state_dict({key: state[key] for key in teacher.state_dict()})
    teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return teacher.eval()


def as_input(crops: NDArray[np.uint8]) -> Tensor:
    """Normalised (N, 3, CROP, CROP)."""
    images = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    return ((images - MEAN) / STD).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def fit_projections(
    teachers: dict[str, ResNet], crops: NDArray[np.uint8]
) -> dict[tuple[str, int], tuple[Tensor, Tensor]]:
    """Per target: (matrix (kept, C), mean (C,)); standardised channels, then PCA where fewer are kept."""
    projections = {}
    sums = {key: (torch.zeros(()), torch.zeros(()), 0) for key in KEPT}
    for start in range(0, len(crops), 32):
        for key, values in teacher_maps(teachers, crops[start : start + 32]).items():
            rows = values.permute(0, 2, 3, 1).flatten(0, 2).double()
            total, outer, count = sums[key]
            sums[key] = (total + rows.sum(0), outer + rows.T @ rows, count + len(rows))
    for key, (total, outer, count) in sums.items():
        mean = total / count
        covariance = outer / count - torch.outer(mean, mean)
        spread = covariance.diagonal().clamp_min(1e-12).sqrt()
        if KEPT[key] == len(mean):
            matrix = torch.diag(1 / spread)
        else:
            values, vectors = torch.linalg.eigh(covariance / torch.outer(spread, spread))
            kept = vectors[:, -KEPT[key] :] * math.sqrt(KEPT[key] / float(values[-KEPT[key] :].sum()))
            matrix = kept.T / spread
        projections[key] = (matrix.float(), mean.float())
    return projections


def teacher_maps(teachers: dict[str, ResNet], crops: NDArray[np.uint8]) -> dict[tuple[str, int], Tensor]:
    """The raw target maps of a batch."""
    images = as_input(crops)
    with torch.autocast("cpu", torch.bfloat16):
        maps = {name: teacher(images) for name, teacher in teachers.items()}
    return {(name, layer): maps[name][layer].float() for name, layer in KEPT}


@torch.inference_mode()
def make_targets(
    teachers: dict[str, ResNet],
    projections: dict[tuple[str, int], tuple[Tensor, Tensor]],
    crops: NDArray[np.uint8],
) -> dict[int, Tensor]:
    """Layer → (N, channels of both teachers, h, w), half precision."""
    parts: dict[int, list[Tensor]] = {layer: [] for layer in WIDTHS}
    start_time = time.monotonic()
    for start in range(0, len(crops), 32):
        maps = teacher_maps(teachers, crops[start : start + 32])
        projected = {}
        for key, (matrix, mean) in projections.items():
            values = maps[key].permute(0, 2, 3, 1) - mean
            projected[key] = (values @ matrix.T).permute(0, 3, 1, 2).half()
        for layer, found in parts.items():
            found.append(torch.cat([projected[key] for key in KEPT if key[1] == layer], 1))
        if start % 1600 == 0:
            print(f"targets {start}/{len(crops)} {time.monotonic() - start_time:.0f} s", flush=True)
    return {layer: torch.cat(found) for layer, found in parts.items()}


def training_student() -> Compact:
    """`Compact` with batch norms, and read-outs as wide as the targets."""
    student = Compact()
    for name, module in list(student.named_modules()):
        if isinstance(module, nn.Conv2d) and not name.startswith("readout"):
            plain = copy.deepcopy(module)
            plain.bias = None
            nn.init.kaiming_normal_(plain.weight, mode="fan_out", nonlinearity="relu")
            student.set_submodule(name, nn.Sequential(plain, nn.BatchNorm2d(module.out_channels)))
    for layer, width in WIDTHS.items():
        outputs = sum(kept for (_, of), kept in KEPT.items() if of == layer)
        student.set_submodule(f"readout{layer}", nn.Conv2d(width, outputs, 1))
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return student


def train(
    student: Compact,
    crops: NDArray[np.uint8],
    targets: dict[int, Tensor],
    test_crops: NDArray[np.uint8],
    test_targets: dict[int, Tensor],
    options: argparse.Namespace,
) -> Iterator[list[float]]:
    """AdamW under a one-cycle schedule; yields a log row after every epoch."""
    steps = len(crops) // options.batch
    optimizer = torch.optim.AdamW(student.parameters(), lr=options.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=steps * options.epochs, pct_start=0.15
    )
    rng = np.random.default_rng(options.seed)
    started = time.monotonic()
    for epoch in range(options.epochs):
        order = rng.permutation(len(crops))
        losses = []
        student.train()
        for step in range(steps):
            chosen = order[step * options.batch : (step + 1) * options.batch]
            with torch.autocast("cpu", torch.bfloat16):
                outputs = student(as_input(crops[chosen]))
            loss = sum_of_losses(outputs, {k: t[torch.from_numpy(chosen)] for k, t in targets.items()})
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if step % 50 == 0:
                print(
                    f"epoch {epoch} step {step}/{steps} {time.monotonic() - started:.0f} s {np.mean(losses[-50:]):.4f}",
                    flush=True,
                )
        test_loss, explained = evaluate(student, test_crops, test_targets)
        seconds = round(time.monotonic() - started)
        yield [
            epoch,
            steps * (epoch + 1),
            seconds,
            *(round(v, 4) for v in (float(np.mean(losses)), test_loss, *explained)),
        ]


def sum_of_losses(outputs: dict[int, Tensor], targets: dict[int, Tensor]) -> Tensor:
    """Mean squared error of each layer, added."""
    return torch.stack([functional.mse_loss(outputs[k].float(), targets[k].float()) for k in targets]).sum()


@torch.inference_mode()
def evaluate(
    student: Compact, crops: NDArray[np.uint8], targets: dict[int, Tensor]
) -> tuple[float, list[float]]:
    """The loss, and per target the explained share of variance, on pictures that were not trained on."""
    student.eval()
    outputs: dict[int, list[Tensor]] = {layer: [] for layer in targets}
    for start in range(0, len(crops), 32):
        for layer, found in student(as_input(crops[start : start + 32])).items():
            outputs[layer].append(found)
    joined = {layer: torch.cat(found) for layer, found in outputs.items()}
    explained = []
    offsets = dict.fromkeys(targets, 0)
    for (_, layer), kept in KEPT.items():
        part = slice(offsets[layer], offsets[layer] + kept)
        offsets[layer] += kept
        truth = targets[layer][:, part].float()
        explained.append(
            float(1 - functional.mse_loss(joined[layer][:, part], truth) / truth.square().mean())
        )
    return float(sum_of_losses(joined, targets)), explained


def write_weights(student: Compact, path: Path) -> None:
    """Fold the batch norms, make the read-outs triangular, save in half precision (aside, then renamed)."""
    compact = Compact()
    for name, module in compact.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        trained = student.get_submodule(name)
        if isinstance(trained, nn.Sequential):
            convolution, norm = trained
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_var is not None
            assert norm.running_mean is not None
            scale = norm.weight.detach() * torch.rsqrt(norm.running_var + BATCH_NORM_EPS)
            weight = convolution.weight.detach() * scale.view(-1, 1, 1, 1)
            bias = norm.bias.detach() - norm.running_mean * scale
        else:
            assert isinstance(trained, nn.Conv2d)
            assert trained.bias is not None
            q, r = torch.linalg.qr(trained.weight.detach().flatten(1))
            weight, bias = r[..., None, None], q.T @ trained.bias.detach()
        module.load_state_dict({"weight": weight, "bias": bias})
    aside = path.with_suffix(".part")
    save_file({key: value.half().contiguous() for key, value in compact.state_dict().items()}, aside)
    aside.replace(path)


if __name__ == "__main__":
    main()
