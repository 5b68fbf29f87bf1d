"""Files of torch.save that are damaged or whose tensors do not fit their storages: one clear error each."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from blemish.errors import WeightsError
from blemish.features.download import OFFICIAL, OfficialFile
from blemish.features.weights import pretrained_state, read_torch_file
from blemish.files import sha256_of
from torch_files import FAILS, START, assert_equal, assert_refused, rewrite, write


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
