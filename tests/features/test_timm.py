"""Networks of timm as backbones, against a stand-in with the interface that timm documents."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import blemish
from blemish.data.preprocess import Preprocess
from blemish.errors import MethodError, MissingExtraError, WeightsError
from blemish.features.backbone import Backbone
from blemish.features.timm_network import TimmNetwork
from tiny_product import draw_part, normal_samples


class Pyramid(nn.Module):
    """Five maps of strides 2 to 32, of which some are given."""

    def __init__(self, out_indices: Sequence[int]) -> None:
        super().__init__()
        if max(out_indices) > 4:
            raise IndexError("no such map")
        self.out_indices = out_indices
        self.stages = nn.ModuleList(nn.Conv2d(3 if k == 0 else 4 * k, 4 * (k + 1), 3, 2, 1) for k in range(5))
        self.feature_info = SimpleNamespace(
            channels=lambda: [4 * (k + 1) for k in out_indices],
            reduction=lambda: [2 ** (k + 1) for k in out_indices],
        )
        self.pretrained_cfg: dict[str, Any] = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            images = stage(images).relu()
            maps.append(images)
        return [maps[k] for k in self.out_indices]


class Windows(Pyramid):
    """As Swin: images of one size only, maps with the channels last."""

    def __init__(self, out_indices: Sequence[int]) -> None:
        super().__init__(out_indices)
        self.output_fmt = "NHWC"
        self.pretrained_cfg |= {"fixed_input_size": True, "input_size": (3, 64, 96)}

    def forward(self, images: Tensor) -> list[Tensor]:
        if images.shape[2] != 64:
            raise AssertionError(f"Input height ({images.shape[2]}) doesn't match model (64).")
        return [grid.permute(0, 2, 3, 1) for grid in super().forward(images)]


class Patches(Pyramid):
    """As ConvNeXt: pixels that fill no patch are cut off."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return super().forward(images[:, :, : images.shape[2] // 8 * 8, : images.shape[3] // 8 * 8])


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the stand-in was asked to create."""
    calls: list[dict[str, Any]] = []

    def create_model(
        name: str, *, pretrained: bool, features_only: bool, out_indices: tuple[int, ...]
    ) -> nn.Module:
        calls.append({"name": name, "pretrained": pretrained, "features_only": features_only})
        if name == "absent" and pretrained:
            raise RuntimeError("no weights of that name")
        return {"windows": Windows, "patches": Patches}.get(name, Pyramid)(out_indices)

    timm = ModuleType("timm")
    timm.create_model = create_model  # type: ignore[attr-defined]
    timm.list_models = lambda: ["pyramid", "windows", "patches", "absent"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    return calls


def test_maps_have_the_strides_and_channels_that_timm_states(created: list[dict[str, Any]]) -> None:
    backbone = Backbone("timm:pyramid.in1k", (2, 3))
    maps = backbone(torch.rand(2, 3, 64, 96))
    assert [tuple(grid.shape) for grid in maps] == [(2, 12, 8, 12), (2, 16, 4, 6)]
    assert (backbone.channels, backbone.strides) == ((12, 16), (8, 16))
    assert backbone.normalise.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert backbone.normalise.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert created == [{"name": "pyramid.in1k", "pretrained": True, "features_only": True}]
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_channels_of_maps_come_first(created: list[dict[str, Any]]) -> None:
    backbone = Backbone("timm:windows:random", (1, 3))
    images = torch.rand(2, 3, 64, 96)
    maps = backbone(images)
    assert [tuple(grid.shape) for grid in maps] == [(2, 8, 16, 24), (2, 16, 4, 6)]
    assert isinstance(backbone.network, TimmNetwork)
    for grid, last in zip(maps, backbone.network.network(backbone.normalise(images)), strict=True):
        torch.testing.assert_close(grid.movedim(1, 3), last)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("windows", "Input height (100) doesn't match model (64). Choose its only size, 64×96"),
        ("patches", "its maps have 12×15 cells instead of 13×15. Choose sides that are multiples of 32"),
    ],
)
def test_size_that_the_network_cannot_process(created: list[dict[str, Any]], name: str, reason: str) -> None:
    text = f"timm's {name} cannot process images of 100×120 pixels: {reason}, or another network."
    with pytest.raises(MethodError, match=f"^{re.escape(text)}$"):
        Backbone(f"timm:{name}", (2,))(torch.rand(1, 3, 100, 120))


def test_random_weights_follow_from_the_seed_and_leave_the_generator(created: list[dict[str, Any]]) -> None:
    before = torch.get_rng_state()
    first, second = (Backbone("timm:pyramid:random", (2,)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [call["pretrained"] for call in created] == [False, False]


def test_saved_model_needs_no_pretrained_weights(created: list[dict[str, Any]], tmp_path: Path) -> None:
    method = blemish.PatchCore(backbone="timm:pyramid", coreset_ratio=0.5)
    model = blemish.fit(method, normal_samples(tmp_path / "good", 4), preprocess=Preprocess(size=(64, 64)))
    model.save(tmp_path / "m")
    created.clear()
    loaded = blemish.load(tmp_path / "m")
    assert [call["pretrained"] for call in created] == [False]
    assert loaded.inspect(draw_part(50)).score == model.inspect(draw_part(50)).score


@pytest.mark.parametrize(
    ("name", "layers", "kind", "text"),
    [
        (
            "timm:nothing",
            (2,),
            MethodError,
            r"^timm has no network 'nothing'\. List its networks by timm\.list_models",
        ),
        (
            "timm:pyramid",
            (5,),
            MethodError,
            r"^timm's pyramid has no feature maps \(5,\) \(no such map\)\.",
        ),
        (
            "timm:pyramid",
            (3, 2),
            MethodError,
            r"^timm's pyramid cannot give the feature maps \(3, 2\)\. Name one or more of them in rising order\.$",
        ),
        (
            "timm:absent",
            (2,),
            WeightsError,
            r"^timm cannot load the pretrained weights of absent: no weights of that",
        ),
    ],
)
def test_mistakes_are_one_clear_error(
    created: list[dict[str, Any]], name: str, layers: tuple[int, ...], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        Backbone(name, layers)


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        MissingExtraError, match=r"timm:x needs the extra `timm`: pip install 'blemish\[timm\]'"
    ):
        Backbone("timm:x", (2,))
