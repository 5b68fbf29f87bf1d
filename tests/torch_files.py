"""Files of torch.save in both formats, changed and compared."""

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blemish.errors import WeightsError
from blemish.features.weights import read_torch_file

REMEDY = (
    r"Give a file that holds the network's tensors and nothing else, as torch\.save\(network\.state_dict\(\), path\) "
    r"writes it, or a \.safetensors file\."
)
FAILS = r"reading it fails with \w+"
START: tuple[object, ...] = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
"""The first three pickles of the older format: magic number, protocol, system."""
LAYOUTS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])


def write(path: Path, value: object, zipped: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def rewrite(
    path: Path, change: Callable[[str, bytes], bytes | None], compression: int = zipfile.ZIP_STORED
) -> None:
    """Pass every entry of the zip file through `change`; None leaves it out."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            if (changed := change(name, content)) is not None:
                archive.writestr(name, changed)


def assert_refused(path: Path, reason: str) -> None:
    """One error whose whole text is known up to `reason`, a pattern; no warning."""
    text = rf"^.*w\.pth cannot be read as a state dict of torch\.save: {reason}\. {REMEDY}$"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(WeightsError, match=text):
            read_torch_file(path)
    assert [str(warning.message) for warning in caught] == []


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key], tensor)
