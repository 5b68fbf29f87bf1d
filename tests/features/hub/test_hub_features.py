"""Feature maps of vision transformers from the Hugging Face Hub, compared with transformers itself."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from blemish.errors import MethodError
from blemish.features import backbone as backbone_module
from blemish.features.backbone import Backbone
from blemish.methods.patchcore import PatchCore
from blemish.runtimes.export import export_onnx
from hub_models import FAMILIES, PATCH, SIZES, change_config, images, normalised

transformers: Any = pytest.importorskip("transformers", reason="transformers (extra `hf`) is not installed")
ANY_SIZE = {"vit", "deit"}


@pytest.mark.parametrize("kind", FAMILIES)
def test_layer_k_is_the_patch_tokens_after_block_k(kind: str, folders: dict[str, Path]) -> None:
    arguments = {"interpolate_pos_encoding": True} if kind in ANY_SIZE else {}
    model = transformers.AutoModel.from_pretrained(folders[kind]).eval()
    with torch.no_grad():
        pixels = normalised(images(), kind)
        states = model(pixel_values=pixels, output_hidden_states=True, **arguments).hidden_states
    backbone = Backbone(f"hf:{folders[kind]}", (1, 3))
    found = backbone(images())
    assert (backbone.channels, backbone.strides, backbone.layers) == ((16, 16), (PATCH, PATCH), (1, 3))
    for k, features in zip((1, 3), found, strict=True):
        patches = states[k][:, FAMILIES[kind][1] :]
        assert patches.shape[1] == 5 * 3
        expected = torch.stack([patches[:, row * 3 : row * 3 + 3] for row in range(5)], 1)  # (N, h, w, C)
        torch.testing.assert_close(features, expected.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", FAMILIES)
def test_final_norm_gives_the_tokens_after_the_pretrained_one(kind: str, folders: dict[str, Path]) -> None:
    arguments = {"interpolate_pos_encoding": True} if kind in ANY_SIZE else {}
    model = transformers.AutoModel.from_pretrained(folders[kind]).eval()
    with torch.no_grad():
        final = model(pixel_values=normalised(images(), kind), **arguments).last_hidden_state
    first, last = Backbone(f"hf:{folders[kind]}", (1, 3), final_norm=True)(images())
    expected = final[:, FAMILIES[kind][1] :].mT.unflatten(2, (5, 3))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)
    plain = Backbone(f"hf:{folders[kind]}", (1, 3))(images())
    assert float((plain[1] - last).abs().max()) > 1e-3
    norm = model.norm if hasattr(model, "norm") else model.layernorm
    with torch.no_grad():
        early = norm(plain[0].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(first, early, rtol=1e-4, atol=1e-5)


def test_a_preprocessors_mean_and_std_come_before_the_usual_ones(folder: Path) -> None:
    usual = Backbone(f"hf:{folder}", (2,))
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 0.5, 2]}'
    )
    given = Backbone(f"hf:{folder}", (2,))
    assert given.normalise.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert given.normalise.std.flatten().tolist() == [1, 0.5, 2]
    pixels = (images() - given.normalise.mean) / given.normalise.std
    assert torch.allclose(given(images())[0], usual(0.5 * pixels + 0.5)[0], atol=1e-5)
    (folder / "preprocessor_config.json").write_text('{"size": 224}')
    assert torch.equal(Backbone(f"hf:{folder}", (2,))(images())[0], usual(images())[0])


@pytest.mark.parametrize("kind", FAMILIES)
def test_network_is_cut_after_the_last_layer_asked_for(
    kind: str, folders: dict[str, Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    shallow, deep = Backbone(f"hf:{folders[kind]}", (2,)), Backbone(f"hf:{folders[kind]}", (2, 3))
    assert len(shallow.state_dict()) < len(deep.state_dict())
    assert torch.equal(shallow(images())[0], deep(images())[0])
    assert caplog.messages == []  # no report on the tensors that were left out


def test_checkpoint_of_a_classifier(tmp_path: Path) -> None:
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**SIZES)).eval()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        states = model(
            pixel_values=normalised(images(), "vit"), output_hidden_states=True, interpolate_pos_encoding=True
        ).hidden_states
    found = Backbone(f"hf:{tmp_path}", (3,))(images())[0]
    torch.testing.assert_close(found.flatten(2).mT, states[3][:, 1:])


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
@pytest.mark.parametrize(("height", "width"), [(20, 12), (18, 11), (33, 17)])
def test_a_bright_patch_moves_its_own_cell(
    kind: str, height: int, width: int, folders: dict[str, Path]
) -> None:
    backbone = Backbone(f"hf:{folders[kind]}", (1,))
    rows, columns = -(-height // PATCH), -(-width // PATCH)
    dark = torch.zeros(1, 3, height, width)
    before = backbone(dark)[0]
    assert before.shape == (1, 16, rows, columns)
    for row, column in ((0, columns - 1), (rows - 1, 0), (rows // 2, 1)):
        bright = dark.clone()  # the grid spans the image: a cell's pixels are its share of each side
        top, bottom = round(row * height / rows), round((row + 1) * height / rows)
        left, right = round(column * width / columns), round((column + 1) * width / columns)
        bright[:, :, top:bottom, left:right] = 3
        moved = (backbone(bright)[0] - before).square().sum(1).flatten()
        assert divmod(int(moved.argmax()), columns) == (row, column)


def test_sides_that_are_no_multiple_of_the_patch_are_stretched(folders: dict[str, Path]) -> None:
    backbone = Backbone(f"hf:{folders['vit']}", (1,))
    ramp = torch.linspace(-1, 1, 18)[None, None, :, None].expand(1, 3, 18, 12)
    centres = ((torch.arange(20) + 0.5) * 18 / 20 - 0.5).clamp(0, 17)  # where 20 rows sample 18
    stretched = (-1 + 2 * centres / 17)[None, None, :, None].expand(1, 3, 20, 12)
    torch.testing.assert_close(backbone(ramp)[0], backbone(stretched)[0], rtol=1e-4, atol=1e-4)


def test_frozen_for_good(folders: dict[str, Path]) -> None:
    backbone = Backbone(f"hf:{folders['dinov2']}", (2,))
    before = backbone(images())[0].clone()
    torch.nn.Sequential(backbone).train()
    after = backbone.train()(images())[0]
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not after.requires_grad
    assert torch.equal(before, after)


def test_never_tiled(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone(f"hf:{folders['vit']}", (1, 2))
    whole = backbone(images())
    monkeypatch.setattr(backbone_module, "LARGEST_UNTILED", 1)
    assert backbone.halo is None
    assert all(torch.equal(a, b) for a, b in zip(backbone(images()), whole, strict=True))


def test_random_weights_need_the_config_only_and_leave_the_callers_random_state_alone(folder: Path) -> None:
    trained = Backbone(f"hf:{folder}", (2,)).state_dict()
    (folder / "model.safetensors").unlink()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = Backbone(f"hf:{folder}:random", (2,)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = Backbone(f"hf:{folder}:random", (2,)).state_dict()
    assert list(first) == list(second) == list(trained)
    assert all(torch.equal(first[key], second[key]) for key in first)
    weights = [key for key in first if key.endswith("fc1.weight")]
    assert len(weights) == 2
    assert not any(torch.equal(first[key], trained[key]) for key in weights)
    assert not torch.equal(first[weights[0]], first[weights[1]])


def test_exported_graph_agrees(folders: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    method = PatchCore(backbone=f"hf:{folders['dinov2']}", layers=(1,), coreset_ratio=0.5)
    method.collect([images(18, 14)])
    method.learned = torch.ones(1)
    export_onnx(method, tmp_path / "model.onnx", (18, 14))  # refuses to write a graph that differs
    assert (tmp_path / "model.onnx").is_file()


def test_half_precision_checkpoint_gives_float32_maps(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({key: tensor.half() for key, tensor in state.items()}, folder / "model.safetensors")
    change_config(folder, dtype="float16")
    for name in (f"hf:{folder}", f"hf:{folder}:random"):
        assert Backbone(name, (1,))(images())[0].dtype == torch.float32


@pytest.mark.parametrize("layers", [(), (0,), (4,), (2, 1), (1, 1)])
def test_layers_that_do_not_exist_or_do_not_rise(layers: tuple[int, ...], folders: dict[str, Path]) -> None:
    text = (
        f"Backbone hf:{folders['vit']} has the layers (1, 2, 3), finest first, but {layers} were requested. "
        "Name one or more of them in rising order."
    )
    with pytest.raises(MethodError, match=f"^{re.escape(text)}$"):
        Backbone(f"hf:{folders['vit']}", layers)
