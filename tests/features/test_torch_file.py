"""State dicts are read from files of torch.save; anything else is refused, and nothing in a file is executed."""

import io
import os
import pickle
import struct
import warnings
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
from blemish.features.weights import OFFICIAL, OfficialFile, pretrained_state, read_torch_file
from blemish.files import sha256_of

REMEDY = r"Replace it with an undamaged file that holds nothing but tensors, or with a \.safetensors file\."
FAILS = r"reading it fails with \w+"
START: tuple[object, ...] = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
"""The first three pickles of the older format: magic number, protocol, system."""
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
    ("old", "new", "reason"),
    [
        (b"K\x00K\x04\x85", b"K\x01K\x04\x85", FAILS),  # starts one element later
        (b"K\x00K\x04\x85", b"J\xff\xff\xff\xffK\x04\x85", FAILS),  # starts at -1
        (b"K\x00K\x04\x85", b"K\x00J\xff\xff\xff\x7f\x85", FAILS),  # has 2³¹ - 1 elements
        (b"q\x08K\x01\x85", b"q\x08K\x02\x85", FAILS),  # takes every second element
        (
            b"K\x04\x85q\x08K\x01\x85",
            b"K\x05\x85q\x08K\x00\x85",
            "its entry 'w' has more elements than are stored",
        ),
        (b"q\x08K\x01\x85", b"q\x08K\x01K\x01\x86", FAILS),  # two strides for one dimension
        (b"cpuq\x06K\x04", b"cpuq\x06K\x03", FAILS),  # the storage is said to be smaller
        (b"cpuq\x06K\x04", b"cpuq\x06K\x05", FAILS),  # or larger
        (b"cpuq\x06K\x04", b"cpuq\x07J\xff\xff\xff\x7f", FAILS),  # or much larger
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
    assert_refused(path, reason)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"K\x00K\x04\x85", b"K\x01K\x04\x85"),
        (b"K\x00K\x04\x85", b"J\xff\xff\xff\xffK\x04\x85"),
        (b"K\x00K\x04\x85", b"K\x00J\xff\xff\xff\x7f\x85"),
    ],
)
def test_tensor_outside_its_storage_in_the_older_format(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = write(tmp_path / "w.pth", {"w": torch.arange(4.0)}, zipped=False)
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    assert_refused(path, FAILS)


def test_storage_described_in_two_ways_is_read_in_the_first(tmp_path: Path) -> None:
    """`b` is said to be half of a storage that `a` says is float32: both lie inside it, whatever they are."""
    path = write(tmp_path / "w.pth", {"a": torch.arange(4.0), "b": torch.zeros(2).half()}, zipped=True)
    rewrite(path, lambda _, content: content.replace(b"X\x01\x00\x00\x001", b"X\x01\x00\x00\x000"))
    assert_equal(read_torch_file(path), {"a": torch.arange(4.0), "b": torch.arange(2.0)})


def test_compressed_entry_is_refused_before_it_grows(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", {"w": torch.zeros(4_000_000)}, zipped=True)
    rewrite(path, lambda _, content: content, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert_refused(path, "reading it fails with BadZipFile")


def test_compressed_numbers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", {"w": torch.zeros(4)}, zipped=True)
    rewrite(path, lambda name, content: None if name == "w/data/0" else content)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data/0", bytes(10_000_000))
    assert_refused(path, "reading it fails with BadZipFile")


@pytest.mark.parametrize("left_out", ["w/data/0", "w/data.pkl"])
def test_entry_missing_in_the_zip_file(tmp_path: Path, left_out: str) -> None:
    path = write(tmp_path / "w.pth", {"w": torch.zeros(4)}, zipped=True)
    rewrite(path, lambda name, content: None if name == left_out else content)
    assert_refused(path, FAILS)


def test_damaged_numbers_in_the_zip_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch does not compare the checksums of the zip file; the sha256 of the whole file is compared before."""
    path = write(tmp_path / "w.pth", {"w": torch.full((1000,), 3.0)}, zipped=True)
    monkeypatch.setitem(OFFICIAL, "tiny", OfficialFile("w.pth", sha256_of(path)))
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(tmp_path))
    assert torch.equal(pretrained_state("tiny", {"w": (1000,)})["w"], torch.full((1000,), 3.0))
    content = bytearray(path.read_bytes())
    content[content.find(struct.pack("<f", 3.0) * 20) + 40] ^= 255
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.pth is damaged: its sha256 is .* Delete the file\.$"):
        pretrained_state("tiny", {"w": (1000,)})


def test_older_format_whose_storages_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", {"w": torch.arange(4.0)}, zipped=False)
    content = path.read_bytes()
    numbers = torch.arange(4.0).numpy().tobytes()
    assert content.endswith(struct.pack("<q", 4) + numbers)
    path.write_bytes(content[:-24] + struct.pack("<q", 5) + numbers)
    assert_refused(path, FAILS)
    path.write_bytes(content[:-1])
    assert_refused(path, FAILS)


def test_storage_larger_than_the_file_that_is_never_filled(tmp_path: Path) -> None:
    """The older format lists the storages that follow; torch leaves one that is not listed as it is."""
    count = 2**24
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ%bNtQ" % struct.pack(
        "<i", count
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(%bK\0J%b\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR" % (
        storage, struct.pack("<i", count)
    )  # fmt: skip
    parts = [pickle.dumps(part, 2) for part in START]
    parts += [b"\x80\x02}X\x01\0\0\0w%bs." % tensor, pickle.dumps([], 2)]
    path = tmp_path / "w.pth"
    path.write_bytes(b"".join(parts))
    assert torch.load(path, weights_only=True)["w"].shape == (count,)
    assert_refused(path, "it describes more numbers than it holds")


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
        state = read_torch_file(path)
    except WeightsError:
        return
    assert all(isinstance(tensor, Tensor) and tensor.numel() <= 3 for tensor in state.values())
