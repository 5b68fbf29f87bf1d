"""The contract of a backbone: its names, its layers, its frozenness, its random control."""

import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from blemish.errors import MethodError, WeightsError
from blemish.features.backbone import NETWORKS, Backbone
from blemish.features.resnet import BATCH_NORM_EPS
from blemish.features.weights import loads_pretrained, without_pretrained

real_weights = pytest.mark.skipif(
    not os.environ.get("BLEMISH_WEIGHTS"), reason="BLEMISH_WEIGHTS names no folder with pretrained weights"
)
KNOWN = (
    "compact, resnet18, resnet34, resnet50, resnet50_caffe, resnet101, resnet152, "
    "wide_resnet50_2, wide_resnet101_2"
)


def images(height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("name", "layers", "channels", "strides"),
    [
        ("compact:random", (2, 3), (128, 192), (8, 16)),
        ("compact:random", (2,), (128,), (8,)),
        ("resnet18:random", (1, 3), (64, 256), (4, 16)),
        ("resnet50_caffe:random", (2,), (512,), (8,)),
    ],
)
def test_feature_maps_have_the_stated_channels_and_strides(
    name: str, layers: tuple[int, ...], channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    backbone = Backbone(name, layers)
    assert (backbone.channels, backbone.strides) == (channels, strides)
    expected = [(2, c, 64 // s, 96 // s) for c, s in zip(channels, strides, strict=True)]
    assert [tuple(found.shape) for found in backbone(images())] == expected


@pytest.mark.parametrize("name", ["compact:random", "resnet18:random"])
def test_images_are_normalised_as_on_imagenet(name: str) -> None:
    backbone, images = Backbone(name, (2, 3)), torch.rand(2, 3, 64, 96)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    pixels = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
    expected = backbone.network(pixels)
    for k, found in zip((2, 3), backbone(images), strict=True):
        assert torch.equal(found, expected[k])
    state = backbone.state_dict()  # a saved model brings its own
    assert torch.equal(state["normalise.mean"], mean)
    assert torch.equal(state["normalise.std"], std)


def test_network_is_cut_after_the_last_layer_asked_for() -> None:
    shallow, deep = Backbone("resnet18:random", (1, 2)), Backbone("resnet18:random", (1, 3))
    assert not any(key.startswith("network.layer3") for key in shallow.state_dict())
    assert torch.equal(shallow(images())[0], deep(images())[0])


@pytest.mark.parametrize(
    "name", ["resnet", "resnet18:", "resnet18:half", ":random", "resnet18:random:random", ""]
)
def test_unknown_name(name: str) -> None:
    text = (
        f"No backbone is called {name!r}. Choose one of: {KNOWN}; NAME@FILE for your own weights of one; "
        "hf:OWNER/MODEL for a vision transformer of the "
        "Hugging Face Hub; timm:NAME for a network of timm; NAME:random for random weights."
    )
    with pytest.raises(MethodError, match=f"^{re.escape(text)}$"):
        Backbone(name, (2,))


@pytest.mark.parametrize("layers", [(), (0,), (5,), (3, 2), (2, 2), ("2",)])
def test_layers_that_do_not_exist_or_do_not_rise(layers: tuple[int, ...]) -> None:
    text = (
        f"Backbone resnet18 has the layers (1, 2, 3, 4), finest first, but {layers} were requested. "
        "Name one or more of them in rising order."
    )
    with pytest.raises(MethodError, match=f"^{re.escape(text)}$"):
        Backbone("resnet18:random", layers)


def test_layers_of_compact() -> None:
    with pytest.raises(
        MethodError, match=r"Backbone compact has the layers \(2, 3\), finest first, but \(1,\) were"
    ):
        Backbone("compact:random", (1,))


@pytest.mark.parametrize("name", ["compact:random", "resnet18:random"])
def test_frozen_for_good(name: str) -> None:
    backbone = Backbone(name, (2, 3))
    before = [found.clone() for found in backbone(images())]
    parent = torch.nn.Sequential(backbone)
    parent.train()
    after = backbone.train()(images())
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(found.requires_grad for found in after)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["compact:random", "resnet18:random"])
def test_random_weights_are_seeded_and_leave_the_callers_random_state_alone(name: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = Backbone(name, (2,)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = Backbone(name, (2,)).state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)
    weights = [tensor for key, tensor in first.items() if key.endswith("weight")]
    for weight in weights:  # Kaiming: variance 2 / (outputs · kernel area)
        expected = (2 / (weight.shape[0] * weight[0, 0].numel())) ** 0.5
        assert weight.std().item() == pytest.approx(expected, rel=0.1)
    assert not any(tensor.any() for key, tensor in first.items() if key.endswith("bias"))


def test_random_weights_of_one_layer_differ_from_the_next() -> None:
    state = Backbone("resnet18:random", (1,)).state_dict()
    assert not torch.equal(state["network.layer1.0.conv1.weight"], state["network.layer1.0.conv2.weight"])


def test_without_pretrained_looks_for_no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(name: str, shapes: object, file: object) -> None:
        raise AssertionError(f"weights of {name} were looked for")

    monkeypatch.setattr("blemish.features.backbone.pretrained_state", refuse)
    assert loads_pretrained()
    with without_pretrained():
        assert not loads_pretrained()
        backbone = Backbone("resnet18", (1,))
    assert loads_pretrained()
    assert backbone.name == "resnet18"
    assert all(tensor.isfinite().all() for tensor in backbone.state_dict().values())
    with pytest.raises(AssertionError, match="weights of resnet18 were looked for"):
        Backbone("resnet18", (1,))


def test_without_pretrained_ends_with_an_error_inside() -> None:
    with pytest.raises(KeyError), without_pretrained():
        raise KeyError
    assert loads_pretrained()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_name_builds_its_first_layer(name: str) -> None:
    offered = NETWORKS[name][0]
    assert len(Backbone(f"{name}:random", offered[:1])(images(32, 32))) == 1


@real_weights
@pytest.mark.parametrize("name", ["resnet18", "resnet50_caffe"])
def test_real_weights_of_three_layers(name: str) -> None:
    backbone = Backbone(name, (1, 2, 3))
    state = load_file(Path(os.environ["BLEMISH_WEIGHTS"]) / f"{name}.safetensors")
    norm = "layer2.0.bn1."
    scale = state[f"{norm}weight"].double() / (state[f"{norm}running_var"].double() + BATCH_NORM_EPS).sqrt()
    expected = state["layer2.0.conv1.weight"].double() * scale.view(-1, 1, 1, 1)
    found = backbone.state_dict()["network.layer2.0.conv1.weight"]
    assert (found - expected).abs().max() < 1e-6
    maps, control = backbone(images()), Backbone(f"{name}:random", (1, 2, 3))(images())
    for pretrained, random in zip(maps, control, strict=True):
        assert pretrained.isfinite().all()
        assert pretrained.std() > 0.01
        assert not torch.allclose(pretrained, random, atol=0.1)


@real_weights
def test_layer_that_the_real_file_lacks() -> None:
    text = (
        r"resnet18\.safetensors lacks layer4\.0\.conv1\.weight of shape \(512, 256, 3, 3\) "
        r"and 24 other tensors\. Request earlier layers of resnet18, "
        r"or replace the file with one that has all tensors\.$"
    )
    with pytest.raises(WeightsError, match=text):
        Backbone("resnet18", (2, 4))
