"""The teaching of a PDN, and the one that comes with the package."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from tools.distillation import as_images, cut_crops
from torch import nn

from blemish.blocks.patches import mean_map
from blemish.features.backbone import Backbone
from blemish.features.pdn import FrozenPDN, grid_size
from tools import distill_pdn

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["pdn_small", "pdn_medium"])
@torch.no_grad()
def test_the_folded_network_computes_what_the_student_does(name: str) -> None:
    torch.manual_seed(0)
    student = distill_pdn.Student(name)
    images = torch.randn(4, 3, 48, 48)
    student.train()
    for _ in range(3):
        student(images)  # gives the batch norms statistics worth folding
    student.eval()
    norms = [m for m in student.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == (2 if name == "pdn_small" else 4)
    expected = student(images)[distill_pdn.KEY]
    assert torch.allclose(distill_pdn.folded(student)(images), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_targets_are_the_patch_features_of_the_doubled_image_without_its_border() -> None:
    backbone = Backbone("resnet18:random", (2, 3))
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    doubled = nn.functional.interpolate(as_images(crops), scale_factor=2, mode="bilinear")
    whole = mean_map(backbone(doubled), 3, 384)
    assert whole.shape[2:] == (16, 16)
    targets = distill_pdn.describe(backbone, crops).float()
    assert tuple(targets.shape[2:]) == grid_size((64, 64))
    assert torch.allclose(targets, whole[:, :, 4:12, 4:12], atol=0.03 * float(whole.abs().max()))  # bfloat16


def test_standardised_targets_have_mean_0_and_deviation_1() -> None:
    raw = 5 + 3 * torch.randn(20, 384, 8, 8, generator=torch.Generator().manual_seed(0)).half()
    targets, mean, deviation = distill_pdn.standardised(raw)
    values = targets.float().transpose(0, 1).flatten(1)
    assert float(values.mean(1).abs().max()) < 2e-3
    assert float((values.std(1) - 1).abs().max()) < 5e-3
    assert torch.allclose(targets.float() * deviation + mean, raw.float(), atol=0.02)


def test_crops_are_of_the_side_asked_for_and_decided_by_the_seed(tmp_path: Path) -> None:
    import cv2

    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.jpg"), pixels)
    first, second = (cut_crops([tmp_path / "a.jpg"], 5, seed, 40) for seed in (0, 0))
    assert first.shape == (5, 40, 40, 3)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, cut_crops([tmp_path / "a.jpg"], 5, 1, 40))


def test_embedded_weights_are_small_and_taught() -> None:
    path = ROOT / "src" / "blemish" / "features" / "pdn_small.safetensors"
    assert path.stat().st_size <= 6 * 2**20
    taught, random = FrozenPDN("pdn_small"), FrozenPDN("pdn_small:random")
    pairs = zip(taught.parameters(), random.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)


def test_the_log_ends_better_than_it_begins() -> None:
    with (ROOT / "tools" / "distill_pdn.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(len(rows)))
    assert float(rows[-1]["test_loss"]) < float(rows[0]["test_loss"])
    assert float(rows[-1]["explained"]) > 0.48
