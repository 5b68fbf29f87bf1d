"""State dicts are read from files of torch.save; anything else is refused, and nothing in a file is executed."""

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from blemish.features.weights import read_torch_file
from torch_files import FAILS, LAYOUTS, START, assert_equal, assert_refused, write


class Malicious:
    """Runs a shell command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def example() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv1.weight": torch.randn(4, 3, 7, 7, generator=generator),
        "half": torch.randn(5, generator=generator).half(),
        "tracked": torch.tensor(1234567890123),
        "名": torch.randn(2, 2, generator=generator),
    }


@LAYOUTS
def test_plain_tensors(tmp_path: Path, zipped: bool) -> None:
    assert_equal(read_torch_file(write(tmp_path / "w.pth", example(), zipped)), example())


@LAYOUTS
def test_state_dict_of_a_module_with_many_tensors(tmp_path: Path, zipped: bool) -> None:
    """More than 255 memo entries, OrderedDict, and the module versions beside it."""
    module = nn.Sequential(*(nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)) for _ in range(30)))
    path = write(tmp_path / "w.pth", module.state_dict(), zipped)
    assert_equal(read_torch_file(path), dict(module.state_dict()))


@LAYOUTS
def test_parameters_shared_and_strided_storages(tmp_path: Path, zipped: bool) -> None:
    rows = torch.arange(12.0).view(3, 4)
    state = OrderedDict(parameter=nn.Parameter(rows.clone()), rows=rows, column=rows[:, 2], turned=rows.T)
    found = read_torch_file(write(tmp_path / "w.pth", state, zipped))
    assert_equal(found, {key: tensor.detach() for key, tensor in state.items()})


@LAYOUTS
def test_code_in_the_file_never_runs(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "marker"
    path = write(tmp_path / "w.pth", {"conv1.weight": Malicious(marker)}, zipped)
    assert_refused(path, FAILS)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the file is as harmful as the test means it to be
    assert marker.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", range(4))
def test_code_in_any_pickle_of_the_older_format_never_runs(tmp_path: Path, place: int, protocol: int) -> None:
    """The format is a row of pickles: magic number, protocol, system, state dict, names of the storages."""
    marker, path = tmp_path / "marker", tmp_path / "w.pth"
    parts = [pickle.dumps(part, 2) for part in (*START, {}, [])]
    parts[place] = pickle.dumps(Malicious(marker), protocol)
    path.write_bytes(b"".join(parts))
    assert_refused(path, FAILS)
    assert not marker.exists()


def test_compiled_code_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", {"w": torch.zeros(1)}, zipped=True)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("w/constants.pkl", pickle.dumps((), 2))  # what marks an archive of TorchScript
    assert_refused(path, FAILS)


@LAYOUTS
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([torch.zeros(1)], "it holds no dictionary of tensors"),
        (torch.zeros(1), "it holds no dictionary of tensors"),
        ({"epoch": 3}, "its entry 'epoch' is not a tensor"),
        ({"state_dict": {"w": torch.zeros(1)}}, "its entry 'state_dict' is not a tensor"),
        ({1: torch.zeros(1)}, "the name of its entry 1 is not text"),
        ({"w": 0.5}, "its entry 'w' is not a tensor"),
        ({"w": torch.Size([1])}, "its entry 'w' is not a tensor"),
        ({"w": torch.zeros(1, dtype=torch.complex64)}, "its entry 'w' is not a dense tensor of float32, .*"),
        ({"w": torch.eye(2).to_sparse()}, "its entry 'w' is not a dense tensor of float32, float16 or int64"),
        ({"w": torch.empty(2, device="meta")}, "its entry 'w' is not a dense tensor of float32, .*"),
    ],
)
def test_other_contents(tmp_path: Path, zipped: bool, value: object, reason: str) -> None:
    assert_refused(write(tmp_path / "w.pth", value, zipped), reason)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        b"<html>404</html>",
        b"PK\x03\x04",
        pickle.dumps({"w": 1}),
        pickle.dumps(0x1950A86A20F9469CFC6C),
    ],
)
def test_files_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    assert_refused(path, FAILS)


def test_missing_file(tmp_path: Path) -> None:
    assert_refused(tmp_path / "w.pth", "reading it fails with FileNotFoundError")
