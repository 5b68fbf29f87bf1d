"""Files are written whole or not at all."""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from blemish.files import locked, remove_stored, sha256_of, store, stored_path, whole_file, write_whole
from model_folder import broken_at

OLD, NEW = "the old content", "the new content"
FAILURES = pytest.mark.parametrize(
    "error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "ctrl-c"]
)


def found(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in folder.iterdir()}


def replace(path: Path, text: str) -> None:
    with whole_file(path) as aside:
        aside.write_text(text, "utf-8")


def put(folder: Path, text: str) -> str:
    def write(path: Path) -> None:
        path.write_text(text, "utf-8")

    return store(folder, "data.bin", write)


@pytest.fixture(params=["target", "目标 №1"])
def target(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return tmp_path / str(request.param)


def test_new_content_replaces_the_old(target: Path) -> None:
    for text in (OLD, NEW):
        replace(target, text)
    assert found(target.parent) == {target.name: NEW}


def test_content_is_aside_under_a_hidden_name_until_it_is_complete(target: Path) -> None:
    target.write_text(OLD, "utf-8")
    with whole_file(target) as aside:
        assert aside.parent == target.parent
        assert aside.name.startswith(".")
        aside.write_text(NEW, "utf-8")
        assert target.read_text("utf-8") == OLD


@pytest.mark.parametrize(
    "write", [replace, lambda path, text: put(path.parent, text)], ids=["replace", "store"]
)
def test_content_is_on_the_disk_before_the_rename(
    write: Callable[[Path, str], object], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    for name in ("fsync", "replace", "rename"):
        original = getattr(os, name)

        def noted(*args: object, name: str = name, original: object = original) -> object:
            events.append(name)
            assert callable(original)
            return original(*args)

        monkeypatch.setattr(os, name, noted)
    write(target, NEW)
    assert events == ["fsync", "replace"]


@pytest.mark.parametrize("there", [True, False], ids=["over old", "first"])
@FAILURES
def test_writer_that_fails_changes_nothing(target: Path, there: bool, error: BaseException) -> None:
    if there:
        target.write_text(OLD, "utf-8")
    before = found(target.parent)

    def write(path: Path) -> None:
        path.write_text("half of", "utf-8")
        raise error

    with pytest.raises(type(error)), whole_file(target) as aside:
        write(aside)
    with pytest.raises(type(error)):
        store(target.parent, "data.bin", write)
    assert found(target.parent) == before


def test_writer_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(OLD, "utf-8")
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a"):
        pass
    assert found(tmp_path) == {"a": OLD}


@pytest.mark.parametrize("name", ["fsync", "replace"])
@FAILURES
def test_disk_that_fails_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException
) -> None:
    (tmp_path / "target").write_text(OLD, "utf-8")
    for write in (lambda: replace(tmp_path / "target", NEW), lambda: put(tmp_path, NEW)):
        with monkeypatch.context() as patch:
            broken_at(patch, os, name, 1, error)
            with pytest.raises(type(error)):
                write()
    assert found(tmp_path) == {"target": OLD}


def test_stored_files_of_other_content_have_other_names(tmp_path: Path) -> None:
    old, new = put(tmp_path, OLD), put(tmp_path, NEW)
    assert new == hashlib.sha256(NEW.encode()).hexdigest()
    assert found(tmp_path) == {f"data.{old[:16]}.bin": OLD, f"data.{new[:16]}.bin": NEW}
    assert stored_path(tmp_path, "data.bin", new).read_text("utf-8") == NEW


def test_file_of_an_earlier_version_is_found_under_its_plain_name(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_text(OLD, "utf-8")
    assert stored_path(tmp_path, "data.bin", "0" * 64) == tmp_path / "data.bin"


def test_only_what_was_stored_and_not_kept_is_removed(tmp_path: Path) -> None:
    old, new = put(tmp_path, OLD), put(tmp_path, NEW)
    others = [
        "data.bin",
        "data.txt",
        "data.0123456789abcdeg.bin",
        "data.x.bin",
        "notes",
        ".hidden",
        ".a.partial",
    ]
    for name in [*others, f".{'0' * 32}.partial"]:
        (tmp_path / name).touch()
    remove_stored(tmp_path, ["data.bin"], {stored_path(tmp_path, "data.bin", new)})
    assert set(found(tmp_path)) == {*others, f"data.{new[:16]}.bin"}
    assert old != new


def test_a_writer_that_waits_says_so_and_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.files.PATIENCE", 0.05)
    monkeypatch.setattr("blemish.files.LONGEST_WAIT", 0.05)
    said = []
    held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(tmp_path):
            held.set()
            may_end.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    with (
        pytest.raises(TimeoutError, match="Another process holds it"),
        locked(tmp_path, lambda: said.append("waits")),
    ):
        pass
    may_end.set()
    holder.join()
    assert said == ["waits"]
    with locked(tmp_path, lambda: said.append("again")):
        assert said == ["waits"]


def test_one_thread_at_a_time_holds_a_folder_and_no_lock_is_left(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work(_: int) -> None:
        nonlocal inside, most
        for _ in range(5):
            with locked(tmp_path):
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert most == 1
    assert list(tmp_path.iterdir()) == []


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


def test_writes_at_the_same_time_do_not_meet(target: Path) -> None:
    with whole_file(target) as first:
        first.write_text(OLD, "utf-8")
        replace(target, NEW)
        assert target.read_text("utf-8") == NEW
    assert found(target.parent) == {target.name: OLD}


@pytest.mark.parametrize("size", [0, 1, 2**18, 2**18 + 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_sha256_of_any_length(tmp_path: Path, size: int) -> None:
    content = (bytes(range(256)) * (size // 256 + 1))[:size]
    (tmp_path / "x").write_bytes(content)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(content).hexdigest()
