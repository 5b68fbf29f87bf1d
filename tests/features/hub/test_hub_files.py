"""Files of a vision transformer: found in a folder, in the cache or in a saved model, or refused."""

import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from blemish.errors import MissingExtraError, WeightsError
from blemish.features.backbone import Backbone
from blemish.features.weights import without_pretrained
from blemish.methods.patchcore import PatchCore
from blemish.runtimes.torch import load_method, save_weights
from hub_models import change_config, images, put_into

pytest.importorskip("transformers", reason="transformers (extra `hf`) is not installed")


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
