"""Vision transformers of Hugging Face's as backbones, against transformers itself."""

import json
import logging
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from blemish.errors import MethodError, MissingExtraError, WeightsError
from blemish.features import backbone as backbone_module
from blemish.features.backbone import Backbone
from blemish.features.weights import without_pretrained
from blemish.methods.patchcore import PatchCore
from blemish.runtimes.export import export_onnx
from blemish.runtimes.torch import load_method, save_weights

transformers: Any = pytest.importorskip("transformers", reason="transformers (extra `hf`) is not installed")
hub_constants: Any = pytest.importorskip("huggingface_hub.constants")

PATCH = 4
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
FAMILIES = {  # model type → (config class, tokens before the patches)
    "vit": ("ViTConfig", 1),
    "deit": ("DeiTConfig", 2),
    "dinov2": ("Dinov2Config", 1),
    "dinov2_with_registers": ("Dinov2WithRegistersConfig", 5),
    "dinov3_vit": ("DINOv3ViTConfig", 5),
}
ANY_SIZE = {"vit", "deit"}
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny random model of each family, saved by transformers."""
    made = {}
    for kind, (name, _) in FAMILIES.items():
        more = {"num_register_tokens": 4} if FAMILIES[kind][1] == 5 else {}
        config = getattr(transformers, name)(**SIZES, **more)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            model = transformers.AutoModel.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():  # the initial values hardly tell positions and blocks apart
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
        made[kind] = tmp_path_factory.mktemp(kind)
        model.save_pretrained(made[kind])
    return made


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A ViT whose files may be changed."""
    return Path(shutil.copytree(folders["vit"], tmp_path / "vit"))


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the Hub's, and no network."""
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def images(height: int = 20, width: int = 12) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(5))


def normalised(images: Tensor, kind: str) -> Tensor:
    """As the authors of each model type trained it."""
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (([0.5] * 3, [0.5] * 3) if kind == "vit" else IMAGENET)
    )
    return (images - mean) / std


def put_into(cache: Path, *files: Path) -> None:
    """As the Hub's client lays out acme/tiny."""
    repository, commit = cache / "models--acme--tiny", "0" * 40
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, snapshot)


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


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


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", '{"image_mean": 0.5}', '{"image_mean": [0.5, 0.5]}', '{"image_mean": [1, 2, NaN]}',
        '{"image_std": [1, 1, 0]}', '{"image_std": null}', '{"image_std": ["a", 1, 1]}', '{"image_std": [1e999, 1, 1]}',
    ],
)  # fmt: skip
def test_a_preprocessor_without_sense_is_refused(folder: Path, text: str) -> None:
    (folder / "preprocessor_config.json").write_text(text)
    with pytest.raises(
        WeightsError,
        match=r"preprocessor_config\.json does not hold image_mean and image_std of three numbers each, the latter "
        r"above 0\. Replace it with the model's own file, or remove it\.$",
    ):
        Backbone(f"hf:{folder}", (2,))


def test_a_repositorys_preprocessor_is_read_and_stays_with_a_saved_model(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}'
    )
    put_into(cache, *folder.iterdir())
    method = PatchCore(backbone="hf:acme/tiny", layers=(1,), coreset_ratio=0.5)
    method.collect([images()])
    method.learned = torch.ones(1)
    save_weights(method, tmp_path / "weights.safetensors")
    next(cache.rglob("preprocessor_config.json")).unlink()
    again = load_method(PatchCore, method.arguments, tmp_path / "weights.safetensors")
    with torch.no_grad():
        assert torch.equal(again(images()).score, method(images()).score)


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


def test_a_repository_is_taken_from_the_cache(
    folders: dict[str, Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_into(cache, folders["dinov2"] / "config.json", folders["dinov2"] / "model.safetensors")
    found = Backbone("hf:acme/tiny", (3,))(images())[0]
    assert torch.equal(found, Backbone(f"hf:{folders['dinov2']}", (3,))(images())[0])
    assert caplog.messages == [
        "preprocessor_config.json of acme/tiny cannot be downloaded; "
        "images are normalised with the mean and std of its model type"
    ]


def test_a_model_folder_brings_the_weights_and_needs_the_config_only(
    folders: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    put_into(cache, folders["vit"] / "config.json")
    with without_pretrained():
        method = PatchCore(backbone="hf:acme/tiny", layers=(1, 2), coreset_ratio=0.5)
    method.features.load_state_dict(Backbone(f"hf:{folders['vit']}", (1, 2)).state_dict())
    method.collect([images()])
    method.learned = torch.ones(1)
    save_weights(method, tmp_path / "weights.safetensors")
    again = load_method(PatchCore, method.arguments, tmp_path / "weights.safetensors")
    with torch.no_grad():
        assert torch.equal(again(images()).score, method(images()).score)


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


def test_code_and_adapters_beside_the_weights_are_not_touched(folder: Path) -> None:
    expected = Backbone(f"hf:{folder}", (1,))(images())[0]
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    (folder / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "base_model_name_or_path": "evil/evil"}'
    )
    change_config(
        folder, auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"}, attn_implementation="evil/kernel"
    )
    assert torch.equal(Backbone(f"hf:{folder}", (1,))(images())[0], expected)


def test_pooler_may_be_missing_but_nothing_else(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    expected = Backbone(f"hf:{folder}", (1,))(images())[0]
    without = {key: tensor for key, tensor in state.items() if not key.startswith("pooler.")}
    assert len(without) == len(state) - 2
    save_file(without, path, metadata={"format": "pt"})
    backbone = Backbone(f"hf:{folder}", (1,))
    assert torch.equal(backbone(images())[0], expected)
    assert not any("pooler" in key for key in backbone.state_dict())
    del without["embeddings.position_embeddings"]
    save_file(without, path, metadata={"format": "pt"})
    text = (
        f"{path} does not fit the config.json beside it: embeddings.position_embeddings is missing or has another "
        "shape, and so have 0 other tensors. Replace both files with those of one model."
    )
    with pytest.raises(WeightsError, match=f"^{re.escape(text)}$"):
        Backbone(f"hf:{folder}", (1,))


def test_weights_of_another_shape(folder: Path) -> None:
    change_config(folder, image_size=32)
    with pytest.raises(WeightsError, match=r"embeddings.position_embeddings is missing or has another shape"):
        Backbone(f"hf:{folder}", (1,))


def test_damaged_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(
        WeightsError, match=r"model.safetensors cannot be loaded: .* Replace it with an undamaged file"
    ):
        Backbone(f"hf:{folder}", (1,))


@pytest.mark.parametrize("layers", [(), (0,), (4,), (2, 1), (1, 1)])
def test_layers_that_do_not_exist_or_do_not_rise(layers: tuple[int, ...], folders: dict[str, Path]) -> None:
    text = (
        f"Backbone hf:{folders['vit']} has the layers (1, 2, 3), finest first, but {layers} were requested. "
        "Name one or more of them in rising order."
    )
    with pytest.raises(MethodError, match=f"^{re.escape(text)}$"):
        Backbone(f"hf:{folders['vit']}", layers)


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    text = "Backbone hf:acme/tiny needs the extra `hf`: pip install 'blemish[hf]'."
    with pytest.raises(MissingExtraError, match=f"^{re.escape(text)}$"):
        Backbone("hf:acme/tiny", (1,))


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_folder_that_lacks_a_file(missing: str, folder: Path) -> None:
    (folder / missing).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    text = (
        f"hf:{folder} names a folder, but there is no {folder / missing}. "
        "Put the model's config.json and model.safetensors there, or name a repository: hf:OWNER/MODEL."
    )
    with pytest.raises(WeightsError, match=f"^{re.escape(text)}$"):
        Backbone(f"hf:{folder}", (1,))


@pytest.mark.parametrize("cached", [(), ("config.json",), ("model.safetensors",)])
def test_offline_and_not_in_the_cache(
    cached: tuple[str, ...], folders: dict[str, Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_into(cache, *(folders["vit"] / file for file in cached))
    with pytest.raises(
        WeightsError,
        match=r"^config.json and model.safetensors of acme/tiny are not in Hugging Face's cache, and downloading "
        r"failed: .+\. Copy that cache \(\$HF_HOME\) from a computer that has them, or put the files into a "
        r"folder and name it: hf:./FOLDER\.$",
    ):
        Backbone("hf:acme/tiny", (1,))
    assert caplog.messages == ["Looking for acme/tiny on the Hugging Face Hub"]


def test_offline_without_even_the_config(cache: Path) -> None:
    with without_pretrained(), pytest.raises(WeightsError, match=r"^config.json of acme/tiny are not in"):
        Backbone("hf:acme/tiny", (1,))


@pytest.mark.parametrize("name", ["hf:acme--tiny", "hf:acme/a..b"])
def test_names_that_the_hub_refuses(name: str, cache: Path) -> None:
    with pytest.raises(WeightsError, match=f"^config.json and model.safetensors of {name[3:]} are not in"):
        Backbone(name, (1,))


def test_models_that_are_no_plain_vit(folder: Path) -> None:
    change_config(folder, model_type="resnet")
    with pytest.raises(
        WeightsError,
        match=r"is a model of type resnet with patches of \d+; a backbone must have square patches and be one of: "
        "vit, deit, dinov2, dinov2_with_registers, dinov3_vit",
    ):
        Backbone(f"hf:{folder}", (1,))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"model_type": "vit", "hidden_size": "many"}'])
def test_configs_that_cannot_be_understood(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(
        WeightsError,
        match=r"config.json cannot be read: .+\. Name a vision transformer saved by transformers\.$",
    ):
        Backbone(f"hf:{folder}", (1,))
