"""Tensors of a wrong type, or with NaN, are refused in files of both formats."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from blemish.errors import WeightsError
from blemish.features.download import OFFICIAL, OfficialFile
from blemish.features.weights import pretrained_state
from blemish.files import sha256_of

SHAPES = {"w": (2,)}


def write(folder: Path, suffix: str, tensor: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of network `tiny` in the folder that is searched first."""
    path = folder / f"tiny{suffix}"
    if suffix == ".pth":
        torch.save({"w": tensor}, path)
        monkeypatch.setitem(OFFICIAL, "tiny", OfficialFile(path.name, sha256_of(path)))
    else:
        save_file({"w": tensor}, path)
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(folder))
    return path


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.complex64, torch.float64])
def test_type_of_tensors_in_safetensors_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    path = write(tmp_path, ".safetensors", torch.zeros(2, dtype=dtype), monkeypatch)
    with pytest.raises(WeightsError) as caught:
        pretrained_state("tiny", SHAPES)
    assert str(caught.value) == (
        f"{path} holds w as {dtype}, expected float32, float16 or int64. Replace the file."
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_nan_and_infinity_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, value: float
) -> None:
    path = write(tmp_path, suffix, torch.tensor([0.0, value]), monkeypatch)
    with pytest.raises(WeightsError) as caught:
        pretrained_state("tiny", SHAPES)
    assert str(caught.value) == f"{path} holds NaN or infinity in w. Replace it with an undamaged file."


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64])
def test_usual_types_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    for suffix in (".safetensors", ".pth"):
        tensor = torch.arange(2, dtype=dtype)
        write(tmp_path, suffix, tensor, monkeypatch)
        assert torch.equal(pretrained_state("tiny", SHAPES)["w"], tensor)
