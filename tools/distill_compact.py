"""Teach the `compact` backbone to predict the features of two ImageNet ResNets on photos and textures.

The command that made the embedded weights, from clones of the two public image repositories
EliSchwartz/imagenet-sample-images and pan8915/DeepTexture (`WEIGHTS` holds the two teachers' files):

    python -m tools.distill_compact PHOTOS TEXTURES WEIGHTS --out src/blemish/features/compact.safetensors \
        --log tools/distill_compact.csv --crops 20000 --epochs 10 --seed 0

Steps: cut crops; run both teachers on them once and keep the targets (stage 2 and 3, every channel
standardised; ResNet-50's reduced by PCA, unwhitened); fit the student to the targets by mean squared error;
fold its batch norms; turn each linear read-out W into the triangular R of W = QR, which keeps every distance
(‖Wa − Wb‖ = ‖Ra − Rb‖) in as few channels as the stage has. One image in ten is never trained on: the log
holds the share of the targets' variance explained there. No inspection data set is read.
"""

import copy
import csv
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tools.distillation import (
    as_input,
    cut_crops,
    new_parser,
    split_files,
    student_maps,
    sum_of_losses,
    train,
    without_batch_norm,
    write_half,
)
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.mixed_precision import mixed_precision
from blemish.features.compact import WIDTHS, Compact
from blemish.features.resnet import DESIGNS, ResNet, fold_batch_norms

CROP = 160
KEPT = {("resnet18", 2): 128, ("resnet18", 3): 256, ("resnet50_caffe", 2): 128, ("resnet50_caffe", 3): 256}
"""Targets, and how many principal components of each are kept (ResNet-18's: all)."""


def main() -> None:
    """Read the arguments, make the targets, train, write the weights."""
    parser = new_parser(__doc__, crops=20000, epochs=10, batch=32)
    parser.add_argument("weights", type=Path)
    options = parser.parse_args()

    cv2.setNumThreads(1)
    torch.manual_seed(options.seed)
    train_files, test_files = split_files(options.photos, options.textures)
    teachers = {name: load_teacher(options.weights, name) for name in ("resnet18", "resnet50_caffe")}
    train_crops = cut_crops(train_files, options.crops, options.seed, CROP)
    test_crops = cut_crops(test_files, options.crops // 20, options.seed + 1, CROP)
    projections = fit_projections(teachers, train_crops[:1024])
    train_targets = make_targets(teachers, projections, train_crops)
    test_targets = make_targets(teachers, projections, test_crops)

    student = training_student()
    with options.log.open("w", newline="") as file:
        log = csv.writer(file)
        columns = [f"explained_{name}_layer{layer}" for name, layer in KEPT]
        log.writerow(["epoch", "step", "seconds", "train_loss", "test_loss", *columns])
        settings = {name: getattr(options, name) for name in ("epochs", "batch", "learning_rate", "seed")}
        for row in train(student, train_crops, train_targets, **settings):
            test_loss, explained = evaluate(student, test_crops, test_targets)
            row = [round(value, 4) for value in (*row, test_loss, *explained)]
            log.writerow(row)
            file.flush()
            print(*row, flush=True)
            write_weights(student, options.out)


def load_teacher(weights: Path, name: str) -> ResNet:
    """A teacher up to stage 3."""
    teacher = ResNet(DESIGNS[name], 3)
    state = fold_batch_norms(load_file(weights / f"{name}.safetensors"))
    teacher.load_state_dict({key: state[key] for key in teacher.state_dict()})
    teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return teacher.eval()


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
    with mixed_precision(torch.device("cpu")):
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


@torch.inference_mode()
def evaluate(
    student: Compact, crops: NDArray[np.uint8], targets: dict[int, Tensor]
) -> tuple[float, list[float]]:
    """The loss, and per target the explained share of variance, on pictures that were not trained on."""
    joined = student_maps(student, crops)
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
            module.load_state_dict(without_batch_norm(trained))
        else:
            assert isinstance(trained, nn.Conv2d)
            assert trained.bias is not None
            q, r = torch.linalg.qr(trained.weight.detach().flatten(1))
            module.load_state_dict({"weight": r[..., None, None], "bias": q.T @ trained.bias.detach()})
    write_half(compact, path)


if __name__ == "__main__":
    main()
