"""Backbones with the user's own weights, from a file that the backbone's name contains."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import blemish
from blemish.errors import WeightsError
from blemish.features.backbone import Backbone
from blemish.features.resnet import DESIGNS, ResNet, fold_batch_norms, state_dict_shapes
from blemish.features.weights import _others
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
    model = blemish.fit(method, normal_samples(tmp_path / "good", 4), preprocess=SMALL, group_by="none")
    model.save(tmp_path / "m")
    path.unlink()
    assert blemish.load(tmp_path / "m").inspect(draw_part(9)).score == model.inspect(draw_part(9)).score


@pytest.mark.parametrize(
    ("change", "held"),
    [
        (
            lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
            "module.conv1.weight, module.bn1.weight",
        ),
        (  # all of ResNet-18's tensors and the further blocks of ResNet-34
            lambda state: state | {f"layer{k}.2.conv1.weight": torch.zeros(2) for k in (1, 2, 3)},
            "layer1.2.conv1.weight, layer2.2.conv1.weight",
        ),
        (lambda _: {"features.0.weight": torch.zeros(2)}, "features.0.weight"),
        (lambda _: {}, "nothing"),
    ],
)
def test_file_of_another_network_is_not_called_damaged(
    state: dict[str, torch.Tensor],
    tmp_path: Path,
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    held: str,
) -> None:
    path = tmp_path / "mine.pth"
    torch.save(change(state), path)
    text = (
        f"{path} holds the tensors of another network than resnet18: {held}, …. Give a state dict of resnet18, whose "
        "names are conv1.weight, bn1.weight, …, without a prefix."
    )
    with pytest.raises(WeightsError, match=f"^{re.escape(text)}$"):
        Backbone(f"resnet18@{path}", (1, 2))


@pytest.mark.parametrize(("deep", "shallow"), [("resnet34", "resnet18"), ("resnet101", "resnet50")])
def test_deeper_network_has_other_tensors(deep: str, shallow: str) -> None:
    """A shallower network's tensors are all in it, with the same shapes."""
    shapes = {name: state_dict_shapes(ResNet(DESIGNS[name], 3)) for name in (deep, shallow)}
    assert shapes[shallow].items() <= shapes[deep].items()
    held = {name: torch.zeros(1) for name in shapes[deep]}
    assert set(_others(held, shapes[shallow])) == shapes[deep].keys() - shapes[shallow].keys()
    assert _others(held, shapes[deep]) == []


def test_path_may_start_with_the_home_folder(
    state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path.replace("~", str(tmp_path)))
    save_file(state, tmp_path / "mine.safetensors")
    assert Backbone("resnet18@~/mine.safetensors", (1, 2)).channels == (64, 128)
    with pytest.raises(WeightsError, match=r"nowhere\.pth is not a file\. Check the path after @"):
        Backbone("resnet18@~/nowhere.pth", (1,))
