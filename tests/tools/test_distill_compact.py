"""The embedded backbone, and the two transformations that made it from the network that was trained."""

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from blemish.features.backbone import Backbone
from blemish.features.compact import Compact

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("distill_compact", ROOT / "tools" / "distill_compact.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def distances(features: Tensor) -> Tensor:
    return torch.pdist(features.permute(0, 2, 3, 1).flatten(0, 2).double())


@torch.no_grad()
def test_written_weights_keep_every_distance_of_the_trained_network(tool: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    student = tool.training_student()
    images = torch.randn(8, 3, 64, 64)
    student.train()
    for _ in range(3):
        student(images)  # gives the batch norms statistics worth folding
    student.eval()
    tool.write_weights(student, tmp_path / "compact.safetensors")
    compact = Compact()
    folded = load_file(tmp_path / "compact.safetensors")
    compact.load_state_dict({name: value.float() for name, value in folded.items()})
    wide, narrow = student(images[:2]), compact(images[:2])
    for layer in (2, 3):
        assert wide[layer].shape[1] > narrow[layer].shape[1]
        expected, found = distances(wide[layer]), distances(narrow[layer])
        assert float((found - expected).abs().max()) < 0.01 * float(expected.mean())  # half precision


def test_one_tenth_of_the_images_is_never_trained_on(tool: ModuleType, tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / f"{i:02}.JPEG").touch()
    train, test = tool.split_files(tmp_path, tmp_path / "none")
    assert len(test) == 3
    assert not set(train) & set(test)
    assert len(train) + len(test) == 30


def test_embedded_weights_are_small_and_taught() -> None:
    path = ROOT / "src" / "blemish" / "features" / "compact.safetensors"
    assert path.stat().st_size <= 4 * 2**20
    assert sum(p.numel() for p in Compact().parameters()) <= 2_000_000
    taught, random = Backbone("compact", (2, 3)), Backbone("compact:random", (2, 3))
    assert taught.strides == (8, 16)
    weights = [m.weight for m in taught.modules() if isinstance(m, nn.Conv2d)]
    others = [m.weight for m in random.modules() if isinstance(m, nn.Conv2d)]
    assert not any(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def test_the_log_ends_better_than_it_begins() -> None:
    with (ROOT / "tools" / "distill_compact.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(10))
    assert float(rows[-1]["test_loss"]) < float(rows[0]["test_loss"])
