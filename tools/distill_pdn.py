"""Teach a PDN, EfficientAD's patch description network, to predict a backbone's patch features.

The command that made the embedded weights, from clones of the two public image repositories
EliSchwartz/imagenet-sample-images and pan8915/DeepTexture ($BLEMISH_WEIGHTS holds the backbone's file):

    python -m tools.distill_pdn PHOTOS TEXTURES --network pdn_small --backbone resnet18 \
        --out src/blemish/features/pdn_small.safetensors --log tools/distill_pdn.csv \
        --crops 8000 --epochs 7 --batch 8 --learning-rate 1.5e-3 --seed 0

Steps: cut crops; run the backbone once on each at twice its size and keep the targets (layers 2 and 3 made into one
embedding of 384 numbers as PatchCore does, every channel standardised); fit the PDN to them by mean squared error,
with batch norms after all but the first convolution, which are folded before writing. A PDN has no padding: the
targets lose 4 cells on every side. One picture in ten is never trained on: the log holds the share of the targets'
variance explained there. No inspection data set is read.
"""

import copy
import csv
import time

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tools.distillation import (
    as_images,
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
from blemish.blocks.patches import mean_map
from blemish.features.backbone import Backbone
from blemish.features.pdn import CHANNELS, DESIGNS, LOST, PDN, init_kaiming

CROP = 96
KEY = 0
"""What the only target is filed under."""


def main() -> None:
    """Read the arguments, make the targets, train, write the weights."""
    parser = new_parser(__doc__, crops=4000, epochs=3, batch=16)
    parser.add_argument("--network", choices=list(DESIGNS), default="pdn_small")
    parser.add_argument("--backbone", default="resnet18")
    options = parser.parse_args()

    cv2.setNumThreads(1)
    torch.manual_seed(options.seed)
    train_files, test_files = split_files(options.photos, options.textures)
    backbone = Backbone(options.backbone, (2, 3))
    crops = cut_crops(train_files, options.crops, options.seed, CROP)
    test_crops = cut_crops(test_files, max(options.crops // 20, 1), options.seed + 1, CROP)
    targets, mean, deviation = standardised(describe(backbone, crops))
    test_targets = {KEY: ((describe(backbone, test_crops).float() - mean) / deviation).half()}

    student = Student(options.network)
    settings = {name: getattr(options, name) for name in ("epochs", "batch", "learning_rate", "seed")}
    with options.log.open("w", newline="") as file:
        log = csv.writer(file)
        log.writerow(["epoch", "step", "seconds", "train_loss", "test_loss", "explained"])
        for row in train(student, crops, {KEY: targets}, **settings):
            test_loss, explained = evaluate(student, test_crops, test_targets)
            row += [test_loss, explained]
            log.writerow([round(value, 4) for value in row])
            file.flush()
            print(*row, flush=True)
            write_half(folded(student), options.out)


class Student(nn.Module):
    """A PDN with batch norms after all its hidden convolutions but the first, whose input is normalised."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.network = PDN(name)
        init_kaiming(self.network)
        for key in hidden_convolutions(self.network)[1:]:
            plain = copy.deepcopy(self.network.get_submodule(key))
            assert isinstance(plain, nn.Conv2d)
            plain.bias = None
            self.network.set_submodule(key, nn.Sequential(plain, nn.BatchNorm2d(plain.out_channels)))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """(N, 3, H, W) → {KEY: (N, 384, h, w)}."""
        return {KEY: self.network(images)}


def hidden_convolutions(network: PDN) -> list[str]:
    """Names of all convolutions but the last."""
    return [
        name for name, module in network.named_modules() if name != "head" and isinstance(module, nn.Conv2d)
    ]


def folded(student: Student) -> PDN:
    """The plain PDN that computes what the student does in evaluation mode."""
    plain = PDN(student.name)
    for name, module in plain.named_modules():
        if isinstance(module, nn.Conv2d):
            trained = student.network.get_submodule(name)
            state = (
                without_batch_norm(trained) if isinstance(trained, nn.Sequential) else trained.state_dict()
            )
            module.load_state_dict(state)
    return plain


@torch.inference_mode()
def describe(backbone: Backbone, crops: NDArray[np.uint8]) -> Tensor:
    """The backbone's patch features (N, 384, h, w) on the PDN's grid, half precision."""
    found = []
    started = time.monotonic()
    for start in range(0, len(crops), 16):
        images = functional.interpolate(
            as_images(crops[start : start + 16]), scale_factor=2, mode="bilinear", align_corners=False
        )
        with mixed_precision(torch.device("cpu")):
            maps = backbone(images)
        features = mean_map([m.float() for m in maps], 3, CHANNELS)
        found.append(features[:, :, LOST:-LOST, LOST:-LOST].half())
        if start % 800 == 0:
            print(f"targets {start}/{len(crops)} {time.monotonic() - started:.0f} s", flush=True)
    return torch.cat(found)


def standardised(targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Targets of mean 0 and deviation 1 in every channel, and both statistics (384, 1, 1)."""
    mean = torch.stack([t.float().mean((1, 2)) for t in targets]).mean(0).view(-1, 1, 1)
    squares = torch.stack([(t.float() - mean).square().mean((1, 2)) for t in targets]).mean(0)
    deviation = squares.sqrt().clamp_min(1e-6).view(-1, 1, 1)
    return torch.stack([((t.float() - mean) / deviation).half() for t in targets]), mean, deviation


def evaluate(student: Student, crops: NDArray[np.uint8], targets: dict[int, Tensor]) -> tuple[float, float]:
    """The loss, and the explained share of variance, on pictures that were not trained on."""
    loss = sum_of_losses(student_maps(student, crops), targets)
    return float(loss), float(1 - loss / targets[KEY].float().square().mean())


if __name__ == "__main__":
    main()
