"""The folders in which pretrained weights are searched, and files whose content does not fit."""

import hashlib
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from blemish.errors import WeightsError
from blemish.features.backbone import Backbone
from blemish.features.download import OFFICIAL, OfficialFile, cache_folder
from blemish.features.resnet import DESIGNS, ResNet, fold_batch_norms, state_dict_shapes
from blemish.features.weights import pretrained_state
from weights_server import SHAPES, STATE, Server, as_torch_file


def test_file_damaged_in_the_cache(server: Server, official: OfficialFile) -> None:
    pretrained_state("tiny", SHAPES)
    path = cache_folder() / official.name
    path.write_bytes(b"x")
    text = f"{path} is damaged: its sha256 is {hashlib.sha256(b'x').hexdigest()}, expected {official.sha256}."
    with pytest.raises(WeightsError, match=f"^{re.escape(text)} Delete the file.$"):
        pretrained_state("tiny", SHAPES)


@pytest.mark.parametrize("given", [True, False])
def test_network_without_an_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: bool) -> None:
    if not given:
        monkeypatch.delenv("BLEMISH_WEIGHTS")
    text = (
        f"No pretrained weights for resnet50_caffe: resnet50_caffe.safetensors is not in {cache_folder()} "
        f"or $BLEMISH_WEIGHTS ({tmp_path / 'given' if given else 'not set'}), "
        "and there is no address to download it from. Put the file into one of these folders."
    )
    with pytest.raises(WeightsError, match=f"^{re.escape(text)}$"):
        Backbone("resnet50_caffe", (2,))


def test_given_folder_goes_before_the_cache_and_the_package(tmp_path: Path) -> None:
    folders = [tmp_path / "given", cache_folder(), tmp_path / "package"]
    for i, folder in enumerate(folders):
        save_file({"w": torch.full((2, 3), float(i))}, folder / "tiny.safetensors")
    for i, folder in enumerate(folders):
        assert torch.equal(pretrained_state("tiny", SHAPES)["w"], torch.full((2, 3), float(i)))
        (folder / "tiny.safetensors").unlink()


def test_official_file_in_the_given_folder_is_checked_too(
    server: Server, official: OfficialFile, tmp_path: Path
) -> None:
    path = tmp_path / "given" / official.name
    path.write_bytes(server.content)
    assert torch.equal(pretrained_state("tiny", SHAPES)["w"], STATE["w"])
    path.write_bytes(server.content + b"?")
    with pytest.raises(WeightsError, match=re.escape(f"{path} is damaged: its sha256 is ")):
        pretrained_state("tiny", SHAPES)
    assert server.requests == []


def test_damaged_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "given" / "tiny.safetensors"
    path.write_bytes(b"not a safetensors file")
    with pytest.raises(
        WeightsError, match=rf"{re.escape(str(path))} cannot be read: .+\. Replace it with an undamaged"
    ):
        pretrained_state("tiny", SHAPES)


def test_tensor_of_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "given" / "tiny.safetensors"
    save_file(STATE, path)
    text = f"{path} holds w with shape (2, 3), but tiny needs (3, 2). Replace the file with one of tiny."
    with pytest.raises(WeightsError, match=f"^{re.escape(text)}$"):
        pretrained_state("tiny", {"w": (3, 2)})


def test_missing_tensor(tmp_path: Path) -> None:
    path = tmp_path / "given" / "tiny.safetensors"
    save_file(STATE, path)
    remedy = "Request earlier layers of tiny, or replace the file with one that has all tensors."
    with pytest.raises(WeightsError, match=f"^{re.escape(f'{path} lacks a of shape (7, 1). {remedy}')}$"):
        pretrained_state("tiny", {"a": (7, 1), "w": (2, 3)})


def first_stage_of_resnet18() -> dict[str, Tensor]:
    """A truncated file: torchvision's names, random numbers, stage 1 only."""
    generator = torch.Generator().manual_seed(0)
    shapes = state_dict_shapes(ResNet(DESIGNS["resnet18"], 1))
    return {key: torch.rand(shape, generator=generator) + 0.1 for key, shape in shapes.items()}


def test_backbone_from_a_truncated_official_file(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    state = first_stage_of_resnet18()
    server.content = as_torch_file(state, zipped=False)
    file = OfficialFile("resnet18-f37072fd.pth", hashlib.sha256(server.content).hexdigest())
    monkeypatch.setitem(OFFICIAL, "resnet18", file)
    backbone = Backbone("resnet18", (1,))
    expected = fold_batch_norms(state)
    assert {f"network.{key}" for key in expected} == {
        f"network.{key}" for key in backbone.network.state_dict()
    }
    assert all(torch.equal(backbone.state_dict()[f"network.{key}"], expected[key]) for key in expected)
    with pytest.raises(
        WeightsError, match=r"resnet18-f37072fd\.pth lacks layer2\.0\.conv1\.weight of shape \(128, 64"
    ):
        Backbone("resnet18", (1, 2))


def test_backbone_refuses_a_batch_norm_that_does_not_fit(tmp_path: Path) -> None:
    state = first_stage_of_resnet18()
    path = tmp_path / "given" / "resnet18.safetensors"
    save_file({**state, "bn1.bias": torch.zeros(32)}, path)
    with pytest.raises(
        WeightsError, match=r"holds bn1\.bias with shape \(32,\), but resnet18 needs \(64,\)\."
    ):
        Backbone("resnet18", (1,))
    del state["layer1.1.bn2.running_var"]
    save_file(state, path)
    with pytest.raises(
        WeightsError, match=r"lacks layer1\.1\.bn2\.running_var of shape \(64,\)\. Request earlier"
    ):
        Backbone("resnet18", (1,))


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    network = Backbone("compact:random", (2,)).network
    state = {key: tensor.half().contiguous() for key, tensor in network.state_dict().items()}
    save_file(state, tmp_path / "package" / "compact.safetensors")
    backbone = Backbone("compact", (2,))
    assert {tensor.dtype for tensor in backbone.state_dict().values()} == {torch.float32}
    assert all(
        torch.equal(backbone.network.state_dict()[key], tensor.float()) for key, tensor in state.items()
    )


def test_official_hashes_begin_as_the_files_names_say() -> None:
    assert set(OFFICIAL) == set(DESIGNS) - {"resnet50_caffe"}
    for name, file in OFFICIAL.items():
        match = re.fullmatch(r"([a-z0-9_]+)-([0-9a-f]{8})\.pth", file.name)
        assert match is not None
        assert match[1] == name
        assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", file.sha256)
        assert file.sha256.startswith(match[2])
