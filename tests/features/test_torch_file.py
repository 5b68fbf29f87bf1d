"""State dicts are read from files of torch.save without running the pickle inside."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from blemish.errors import WeightsError
from blemish.features.torch_file import read_state_dict

REMEDY = r"Replace it by an undamaged file that holds nothing but tensors, or by a \.safetensors file\.$"
LAYOUTS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])


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


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key], tensor)


@LAYOUTS
def test_plain_tensors(tmp_path: Path, zipped: bool) -> None:
    assert_equal(read_state_dict(write(tmp_path / "w.pth", example(), zipped)), example())


@LAYOUTS
def test_state_dict_of_a_module_with_many_tensors(tmp_path: Path, zipped: bool) -> None:
    """More than 255 memo entries, OrderedDict, and the module versions beside it."""
    module = nn.Sequential(*(nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)) for _ in range(30)))
    path = write(tmp_path / "w.pth", module.state_dict(), zipped)
    assert_equal(read_state_dict(path), dict(module.state_dict()))


@LAYOUTS
def test_parameters_shared_and_strided_storages(tmp_path: Path, zipped: bool) -> None:
    rows = torch.arange(12.0).view(3, 4)
    state = OrderedDict(parameter=nn.Parameter(rows.clone()), rows=rows, column=rows[:, 2], turned=rows.T)
    found = read_state_dict(write(tmp_path / "w.pth", state, zipped))
    assert_equal(found, {key: tensor.detach() for key, tensor in state.items()})


@LAYOUTS
def test_code_in_the_file_never_runs(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "marker"
    path = write(tmp_path / "w.pth", {"conv1.weight": Malicious(marker)}, zipped)
    with pytest.raises(
        WeightsError, match=rf"w\.pth cannot be read .*: it wants to call \w+ system, .* {REMEDY}"
    ):
        read_state_dict(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the file is as harmful as the test means it to be
    assert marker.exists()


@LAYOUTS
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([torch.zeros(1)], "it holds no dictionary of tensors"),
        ({"epoch": 3}, "its entry 'epoch' is not a tensor"),
        ({"state_dict": {"w": torch.zeros(1)}}, "its entry 'state_dict' is not a tensor"),
        ({1: torch.zeros(1)}, "it has a list or dictionary that no state dict has"),
        ({"w": torch.zeros(1, dtype=torch.complex64)}, "it has a storage of an unknown kind"),
        ({"w": 0.5}, "a state dict does not need the pickle instruction BINFLOAT"),
    ],
)
def test_other_contents(tmp_path: Path, zipped: bool, value: object, reason: str) -> None:
    with pytest.raises(WeightsError, match=f": {reason}. {REMEDY}"):
        read_state_dict(write(tmp_path / "w.pth", value, zipped))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"K\x00K\x04\x85", b"K\x01K\x04\x85", "it has a tensor that lies outside its storage 0"),
        (b"K\x00K\x04\x85", b"J\xff\xff\xff\xffK\x04\x85", "it has a tensor that lies outside its storage 0"),
        (b"K\x00K\x04\x85", b"K\x00J\xff\xff\xff\x7f\x85", "it has a tensor that lies outside its storage 0"),
        (b"q\x08K\x01\x85", b"q\x08K\x02\x85", "it has a tensor that lies outside its storage 0"),
        (
            b"K\x04\x85q\x08K\x01\x85",
            b"K\x05\x85q\x08K\x00\x85",
            "it has a tensor that lies outside its storage 0",
        ),
        (
            b"q\x08K\x01\x85",
            b"q\x08K\x01K\x01\x86",
            "it has a tensor whose shape and strides contradict each other",
        ),
        (b"cpuq\x06K\x04", b"cpuq\x06K\x03", "it has a tensor that lies outside its storage 0"),
        (b"cpuq\x06K\x04", b"cpuq\x06K\x05", "storage 0 has 16 bytes instead of 20"),
        (b"cpuq\x06K\x04", b"cpuq\x07J\xff\xff\xff\x7f", "it describes more numbers than it holds"),
    ],
)
def test_tensor_outside_its_storage(tmp_path: Path, old: bytes, new: bytes, reason: str) -> None:
    path = write(tmp_path / "w.pth", {"w": torch.arange(4.0)}, zipped=True)

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return content
        assert content.count(old) == 1
        return content.replace(old, new)

    rewrite(path, change)
    with pytest.raises(WeightsError, match=f": {reason}. {REMEDY}"):
        read_state_dict(path)


def test_storage_described_in_two_ways(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", {"a": torch.zeros(4), "b": torch.zeros(2).half()}, zipped=True)
    rewrite(path, lambda _, content: content.replace(b"X\x01\x00\x00\x001", b"X\x01\x00\x00\x000"))
    with pytest.raises(WeightsError, match="it describes storage 0 in two ways"):
        read_state_dict(path)


def test_compressed_entry_is_refused_before_it_grows(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", {"w": torch.zeros(4_000_000)}, zipped=True)
    rewrite(path, lambda _, content: content, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(WeightsError, match=r"entry w/data\.pkl is compressed, which torch\.save never does"):
        read_state_dict(path)


def test_compressed_numbers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", {"w": torch.zeros(4)}, zipped=True)
    rewrite(path, lambda name, content: None if name == "w/data/0" else content)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data/0", bytes(10_000_000))
    with pytest.raises(WeightsError, match="entry w/data/0 is compressed"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("left_out", "reason"),
    [("w/data/0", "There is no item named 'w/data/0'"), ("w/data.pkl", "it holds 0 entries called data.pkl")],
)
def test_entry_missing_in_the_zip_file(tmp_path: Path, left_out: str, reason: str) -> None:
    path = write(tmp_path / "w.pth", {"w": torch.zeros(4)}, zipped=True)
    rewrite(path, lambda name, content: None if name == left_out else content)
    with pytest.raises(WeightsError, match=reason):
        read_state_dict(path)


def test_damaged_numbers_in_the_zip_file(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", {"w": torch.full((1000,), 3.0)}, zipped=True)
    content = bytearray(path.read_bytes())
    content[content.find(struct.pack("<f", 3.0) * 20) + 40] ^= 255
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="Bad CRC-32"):
        read_state_dict(path)


def test_old_layout_whose_storages_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", {"w": torch.arange(4.0)}, zipped=False)
    content = path.read_bytes()
    numbers = torch.arange(4.0).numpy().tobytes()
    assert content.endswith(struct.pack("<q", 4) + numbers)
    path.write_bytes(content[:-24] + struct.pack("<q", 5) + numbers)
    with pytest.raises(WeightsError, match=r"storage .* does not have 4 numbers"):
        read_state_dict(path)
    path.write_bytes(content[:-1])
    with pytest.raises(WeightsError, match="it ends too early"):
        read_state_dict(path)


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
    with pytest.raises(
        WeightsError, match=rf"w\.pth cannot be read as a state dict of torch\.save: .+\. {REMEDY}"
    ):
        read_state_dict(path)


def saved(zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(nn.BatchNorm2d(3).state_dict(), file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


SAVED = [saved(True), saved(False)]


@settings(deadline=None, max_examples=300)
@given(
    content=st.sampled_from(SAVED),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    kept=st.floats(0.2, 1) | st.just(1.0),
)
def test_damage_gives_tensors_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, changes: list[tuple[float, int]], kept: float
) -> None:
    damaged = bytearray(content)
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(damaged[: int(kept * len(damaged))])
    try:
        state = read_state_dict(path)
    except WeightsError:
        return
    assert all(isinstance(tensor, Tensor) and tensor.numel() <= 3 for tensor in state.values())
