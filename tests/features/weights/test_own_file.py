"""Backbones with the user's own weights, from a file that the backbone's name contains."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import blemish
from blemish.errors import WeightsError
from blemish.features.backbone import Backbone
from blemish.features.resnet import fold_batch_norms, state_dict_shapes
from tiny_product import SMALL, draw_part, normal_samples


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """A state dict of ResNet-18 up to layer 2, with torchvision's names."""
    network = Backbone("resnet18:random", (1, 2)).network
    generator = torch.Generator().manual_seed(7)
    shapes = state_dict_shapes(network)  # type: ignore[arg-type]
    return {name: 0.05 * torch.rand(shape, generator=generator) + 0.01 for name, shape in shapes.items()}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pt"])
def test_weights_are_those_of_the_file(state: dict[str, torch.Tensor], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    more = state | {"fc.weight": torch.ones(2, 2)}
    save_file(more, path) if suffix == ".safetensors" else torch.save(more, path)
    images = torch.rand(1, 3, 32, 32)
    network = Backbone("resnet18:random", (1, 2))
    network.network.load_state_dict(fold_batch_norms(state))
    expected = network(images)
    for a, b in zip(Backbone(f"resnet18@{path}", (1, 2))(images), expected, strict=True):
        assert torch.equal(a, b)


def test_saved_model_does_not_need_the_file(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save(state, path)
    method = blemish.PatchCore(backbone=f"resnet18@{path}", layers=(1, 2), coreset_ratio=0.5)
    model = blemish.fit(method, normal_samples(tmp_path / "good", 4), preprocess=SMALL)
    model.save(tmp_path / "m")
    path.unlink()
    assert blemish.load(tmp_path / "m").inspect(draw_part(9)).score == model.inspect(draw_part(9)).score


def test_file_of_another_network_is_not_called_damaged(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "mine.pth"
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    with pytest.raises(WeightsError, match=r"mine\.pth holds other tensors than resnet18 has: module\."):
        Backbone(f"resnet18@{path}", (1, 2))
    with pytest.raises(WeightsError, match=r"nowhere\.pth is not a file\. Check the path after @"):
        Backbone(f"resnet18@{tmp_path / 'nowhere.pth'}", (1,))
