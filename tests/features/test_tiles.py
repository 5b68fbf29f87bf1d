"""Tiled feature maps against those of the whole image, and the reach that the halo is made from."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from blemish.features import backbone as backbone_module
from blemish.features.backbone import LARGEST_UNTILED, TILE_CORE, Backbone
from blemish.features.compact import Compact
from blemish.features.hub import HubNetwork
from blemish.features.resnet import DESIGNS, ResNet
from blemish.features.tiles import compute_reach, tiled
from blemish.features.timm_network import TimmNetwork

ROUNDING = 1e-5  # of the largest feature: float32 sums in another order
EXACT = 1e-12  # the same in float64

SUBSETS = [layers for size in range(1, 5) for layers in combinations((1, 2, 3, 4), size)]


def random_backbone(name: str, layers: tuple[int, ...]) -> Backbone:
    """With biases, as trained ones have: without them a seam could be hidden where all inputs are zero."""
    backbone = Backbone(f"{name}:random", layers)
    generator = torch.Generator().manual_seed(1)
    for key, parameter in backbone.named_parameters():
        if key.endswith("bias"):
            nn.init.normal_(parameter, generator=generator)
    return backbone


def random_images(count: int, height: int, width: int) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(2))


def relative_difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """Largest over the maps, after the shapes, which must agree exactly."""
    assert [part.shape for part in found] == [part.shape for part in expected]
    pairs = zip(found, expected, strict=True)
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


def tile_everything(monkeypatch: pytest.MonkeyPatch, core: int) -> None:
    monkeypatch.setattr(backbone_module, "LARGEST_UNTILED", 0)
    monkeypatch.setattr(backbone_module, "TILE_CORE", core)


@pytest.mark.parametrize(
    ("name", "layers", "shape"),
    [
        ("compact", (2, 3), (2, 160, 224)),
        ("compact", (2,), (2, 171, 229)),
        ("compact", (3,), (1, 35, 331)),
        ("resnet18", (2, 3), (2, 160, 224)),
        ("resnet18", (1, 2, 3), (1, 227, 301)),
        ("resnet34", (1, 3), (1, 389, 43)),
        ("resnet50", (2, 3), (1, 33, 423)),
        ("resnet50_caffe", (2, 3), (1, 423, 33)),
        ("wide_resnet50_2", (2, 3), (1, 24, 391)),
        ("wide_resnet50_2", (2, 4), (1, 17, 421)),
    ],
)
def test_tiled_equals_untiled(
    monkeypatch: pytest.MonkeyPatch, name: str, layers: tuple[int, ...], shape: tuple[int, int, int]
) -> None:
    backbone, images = random_backbone(name, layers), random_images(*shape)
    expected = backbone(images)
    tile_everything(monkeypatch, 64)
    found = backbone(images)
    assert relative_difference(found, expected) < ROUNDING
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in found)
    assert not any(part.requires_grad for part in found)


@pytest.mark.parametrize("layers", SUBSETS, ids=lambda layers: "".join(map(str, layers)))
def test_every_choice_of_layers(monkeypatch: pytest.MonkeyPatch, layers: tuple[int, ...]) -> None:
    backbone, images = random_backbone("resnet18", layers), random_images(1, 21, 491)
    expected = backbone(images)
    tile_everything(monkeypatch, 96)
    assert relative_difference(backbone(images), expected) < ROUNDING


@settings(deadline=None, max_examples=15)
@given(
    height=st.integers(1, 100),
    width=st.integers(97, 240),
    core=st.integers(2, 8).map(lambda strides: 16 * strides),
    transposed=st.booleans(),
)
def test_any_size_and_any_core(height: int, width: int, core: int, transposed: bool) -> None:
    backbone = random_backbone("compact", (2, 3)).double()
    images = random_images(1, height, width).double()
    if transposed:
        images = images.mT
    assert backbone.halo is not None
    found = tiled(backbone, images, backbone.strides, backbone.halo, core)
    assert relative_difference(found, backbone(images)) < EXACT


@pytest.mark.parametrize(("name", "layers"), [("compact", (2, 3)), ("resnet18", (2,))])
def test_a_halo_one_stride_narrower_would_show(name: str, layers: tuple[int, ...]) -> None:
    backbone, images = random_backbone(name, layers).double(), random_images(1, 100, 288).double()
    expected = backbone(images)
    stride = backbone.strides[-1]
    assert backbone.halo is not None
    for halo, seam in ((backbone.halo, False), (backbone.halo - stride, True)):
        found = tiled(backbone, images, backbone.strides, halo, 64)
        assert (relative_difference(found, expected) > EXACT) == seam


def test_network_sees_one_tile_at_a_time() -> None:
    backbone = Backbone("compact:random", (2,))
    seen: list[tuple[int, ...]] = []

    def network(images: Tensor) -> list[Tensor]:
        seen.append(tuple(images.shape))
        return backbone.forward(images)

    maps = tiled(network, random_images(2, 100, 150), backbone.strides, 16, 64)
    heights, widths = [64 + 16, 100 - (64 - 16)], [64 + 16, 16 + 64 + 16, 150 - (128 - 16)]
    assert seen == 2 * [(1, 3, height, width) for height in heights for width in widths]
    assert [tuple(part.shape) for part in maps] == [(2, 128, 13, 19)]


def test_only_images_above_the_limit_are_tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, images = Backbone("compact:random", (2,)), random_images(3, 40, 48)
    calls: list[None] = []
    backbone.network.register_forward_hook(lambda *_: calls.append(None))
    monkeypatch.setattr(backbone_module, "TILE_CORE", 16)
    for limit, expected in ((40 * 48, 1), (40 * 48 - 1, 3 * 3 * 3)):
        monkeypatch.setattr(backbone_module, "LARGEST_UNTILED", limit)
        calls.clear()
        backbone(images)
        assert len(calls) == expected


def test_exported_graph_is_never_tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, images = Backbone("compact:random", (2,)), random_images(1, 48, 64)
    expected = backbone(images)
    tile_everything(monkeypatch, 16)
    program = torch.export.export(backbone, (images,))
    convolutions = [node for node in program.graph.nodes if "conv2d" in str(node.target)]
    assert len(convolutions) == sum(isinstance(module, nn.Conv2d) for module in backbone.modules())
    assert relative_difference(program.module()(images), expected) < ROUNDING


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [
        ("compact", 2, 129),
        ("compact", 3, 225),
        ("resnet18", 1, 65),
        ("resnet18", 3, 257),
        ("resnet50", 3, 321),
        ("resnet50_caffe", 3, 321),
    ],
)
def test_reach_is_where_gradients_end(name: str, layer: int, size: int) -> None:
    backbone = Backbone(f"{name}:random", (layer,))
    for parameter in backbone.parameters():
        parameter.abs_()  # no ReLU cuts a path off
    assert not isinstance(backbone.network, HubNetwork | TimmNetwork)
    reach, stride = compute_reach(backbone.network.path()), backbone.strides[0]
    images = (random_images(1, size, size).abs() + 0.1).requires_grad_()
    cell = size // 2 // stride
    centre = cell * stride
    assert reach < centre
    assert centre + reach < size - 1
    backbone(images)[0][0, :, cell, cell].sum().backward()
    assert images.grad is not None
    touched = images.grad[0].ne(0).any(0)
    for line in (touched.any(0), touched.any(1)):
        inside = line.nonzero().flatten()
        assert (inside.min().item(), inside.max().item()) == (centre - reach, centre + reach)


@pytest.mark.parametrize(("name", "field"), [("resnet50", 483), ("resnet101", 1027), ("resnet152", 1507)])
def test_reach_is_half_the_published_receptive_field(name: str, field: int) -> None:
    """Araujo et al., "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019.

    Theirs, like the Caffe ones, halve the resolution before the first 3×3 convolution of a stage, not in it.
    """
    with torch.device("meta"):
        network = ResNet(replace(DESIGNS[name], stride_in_first_1x1=True), 4)
    assert 2 * compute_reach(network.path()) + 1 == field


@pytest.mark.parametrize(
    ("name", "layers", "reach", "halo"),
    [
        ("compact", (2,), 39, 40),
        ("compact", (2, 3), 95, 96),
        ("resnet18", (2,), 49, 56),
        ("resnet18", (1, 2, 3), 105, 112),
        ("resnet50", (2, 3), 133, 144),
        ("wide_resnet50_2", (1,), 17, 20),
    ],
)
def test_halo_is_the_reach_in_whole_strides(
    name: str, layers: tuple[int, ...], reach: int, halo: int
) -> None:
    backbone = Backbone(f"{name}:random", layers)
    assert not isinstance(backbone.network, HubNetwork | TimmNetwork)
    assert (compute_reach(backbone.network.path()), backbone.halo) == (reach, halo)


def test_path_leaves_shortcuts_out() -> None:
    with torch.device("meta"):
        steps = {"compact": Compact().path(), "resnet18": ResNet(DESIGNS["resnet18"], 3).path()}
    sides = {name: [(step.kernel_size, step.stride) for step in path] for name, path in steps.items()}
    assert len(sides["compact"]) == 2 + 2 + 2 * (4 + 1)  # stem, stage 1, stages 2 and 3 with read-outs
    assert len(sides["resnet18"]) == 2 + 3 * 4
    assert sides["resnet18"][:2] == [((7, 7), (2, 2)), (3, 2)]


def test_core_suits_every_stride_and_the_limit() -> None:
    assert TILE_CORE % 32 == 0
    wide = Backbone("wide_resnet50_2:random", (2, 3))
    assert wide.halo is not None
    assert (TILE_CORE + 2 * wide.halo) ** 2 <= LARGEST_UNTILED
