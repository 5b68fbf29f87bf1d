"""Files and folders are written whole or not at all."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from blemish.files import remove_leftovers, sha256_of, whole_file, whole_folder, write_whole
from model_folder import broken_at

OLD, NEW = "the old content", "the new content"
FAILURES = pytest.mark.parametrize(
    "error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "ctrl-c"]
)


class Whole(Protocol):
    def __call__(self, path: Path) -> AbstractContextManager[Path]: ...


def put(kind: Whole, path: Path, text: str) -> None:
    """Write a file, or a folder with one file at its top and one below."""
    if kind is whole_file:
        path.write_text(text, "utf-8")
        return
    (path / "below").mkdir(parents=True)
    for file in (path / "a.txt", path / "below" / "b.txt"):
        file.write_text(text, "utf-8")


def found(folder: Path) -> dict[str, str]:
    """Every file at or under a folder, and each empty folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8") if path.is_file() else "empty"
        for path in folder.rglob("*")
        if path.is_file() or not any(path.iterdir())
    }


@pytest.fixture(params=[whole_file, whole_folder], ids=["file", "folder"])
def kind(request: pytest.FixtureRequest) -> Whole:
    chosen: Whole = request.param
    return chosen


@pytest.fixture(params=["target", "目标 №1"])
def target(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return tmp_path / str(request.param)


def test_new_content_replaces_the_old(kind: Whole, target: Path) -> None:
    for text in (OLD, NEW):
        with kind(target) as aside:
            put(kind, aside, text)
    expected = ["target"] if kind is whole_file else ["target/a.txt", "target/below/b.txt"]
    assert found(target.parent) == {name.replace("target", target.name): NEW for name in expected}


def test_content_is_aside_under_a_hidden_name_until_it_is_complete(kind: Whole, target: Path) -> None:
    put(kind, target, OLD)
    before = found(target.parent)
    with kind(target) as aside:
        assert aside.parent == target.parent
        assert aside.name.startswith(".")
        put(kind, aside, NEW)
        assert {
            name: text for name, text in found(target.parent).items() if not name.startswith(".")
        } == before


def test_content_is_on_the_disk_before_the_rename(
    kind: Whole, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    for name in ("fsync", "replace", "rename"):
        original = getattr(os, name)

        def noted(*args: object, name: str = name, original: object = original) -> object:
            events.append(name)
            assert callable(original)
            return original(*args)

        monkeypatch.setattr(os, name, noted)
    with kind(target) as aside:
        put(kind, aside, NEW)
    assert events == (["fsync", "replace"] if kind is whole_file else ["fsync", "fsync", "rename"])


@pytest.mark.parametrize("there", [True, False], ids=["over old", "first"])
@FAILURES
def test_writer_that_fails_changes_nothing(
    kind: Whole, target: Path, there: bool, error: BaseException
) -> None:
    if there:
        put(kind, target, OLD)
    before = found(target.parent)

    def write() -> None:
        with kind(target) as aside:
            put(kind, aside, "half of")
            raise error

    with pytest.raises(type(error)):
        write()
    assert found(target.parent) == before


def test_writer_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    put(whole_file, tmp_path / "a", OLD)
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a"):
        pass
    assert found(tmp_path) == {"a": OLD}


@pytest.mark.parametrize(
    ("kind", "name", "call"),
    [
        (whole_file, "fsync", 1),
        (whole_file, "replace", 1),
        (whole_folder, "fsync", 1),
        (whole_folder, "fsync", 2),
        (whole_folder, "rename", 1),
        (whole_folder, "rename", 2),
    ],
)
@FAILURES
def test_disk_that_fails_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Whole, name: str, call: int, error: BaseException
) -> None:
    put(kind, tmp_path / "target", OLD)
    before = found(tmp_path)

    def write() -> None:
        with kind(tmp_path / "target") as aside:
            put(kind, aside, NEW)

    with monkeypatch.context() as patch:
        broken_at(patch, os, name, call, error)
        with pytest.raises(type(error)):
            write()
    assert found(tmp_path) == before


@pytest.mark.parametrize(
    ("kind", "name"), [(whole_file, "fsync"), (whole_file, "replace"), (whole_folder, "rename")]
)
def test_disk_that_fails_at_the_first_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Whole, name: str
) -> None:
    def write() -> None:
        with kind(tmp_path / "target") as aside:
            put(kind, aside, NEW)

    broken_at(monkeypatch, os, name, 1, OSError("disk full"))
    with pytest.raises(OSError, match="disk full"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_old_folder_is_kept_aside_if_it_cannot_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the folder gone from its place, the last copy must not be cleaned away."""
    put(whole_folder, tmp_path / "target", OLD)
    original, calls = os.rename, 0

    def only_once(source: Path, destination: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError("disk gone")
        original(source, destination)

    def write() -> None:
        with whole_folder(tmp_path / "target") as aside:
            put(whole_folder, aside, NEW)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", only_once)
        with pytest.raises(OSError, match="disk gone"):
            write()
    (left,) = tmp_path.iterdir()
    assert found(left) == {"a.txt": OLD, "below/b.txt": OLD}


def test_parents_of_a_folder_are_made(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "a" / "b") as aside:
        put(whole_folder, aside, NEW)
    assert set(found(tmp_path)) == {"a/b/a.txt", "a/b/below/b.txt"}


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("图" * 85)  # 255 bytes
    write_whole(path, NEW)
    assert found(tmp_path) == {path.name: NEW}


@pytest.mark.parametrize(
    ("data", "expected"), [("ä\n名\r\n", "ä\n名\r\n".encode()), (b"\xff\0\r\n", b"\xff\0\r\n")]
)
def test_text_and_bytes_are_written_as_they_are(tmp_path: Path, data: str | bytes, expected: bytes) -> None:
    write_whole(tmp_path / "a", data)
    assert (tmp_path / "a").read_bytes() == expected


def test_writes_at_the_same_time_do_not_meet(kind: Whole, target: Path) -> None:
    with kind(target) as first:
        put(kind, first, OLD)
        with kind(target) as second:
            put(kind, second, NEW)
        assert set(found(target.parent).values()) == {OLD, NEW}
    assert set(found(target.parent).values()) == {OLD}


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    names = ("m", "m[1]", "m.log")
    for name in names:
        put(whole_folder, tmp_path / name, OLD)

    def killed(name: str) -> Iterator[Path]:
        """Never resumed, so nothing is cleaned up while it is referenced."""
        with whole_folder(tmp_path / name) as aside:
            put(whole_folder, aside, NEW)
            yield aside

    writers = [killed(name) for name in names]
    asides = [next(writer) for writer in writers]
    remove_leftovers(tmp_path / "m[1]")
    remove_leftovers(tmp_path / "m")
    assert [aside.exists() for aside in asides] == [False, False, True]
    assert {path.name for path in tmp_path.iterdir()} == {*names, asides[2].name}


@pytest.mark.parametrize("size", [0, 1, 2**18, 2**18 + 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_sha256_of_any_length(tmp_path: Path, size: int) -> None:
    content = (bytes(range(256)) * (size // 256 + 1))[:size]
    (tmp_path / "x").write_bytes(content)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(content).hexdigest()
