"""Every place that cannot be written is refused before any work, and links and permissions stay."""

import errno
import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

import blemish
from blemish.cli.fit import require_output
from blemish.errors import ModelError
from blemish.files import whole_file, whole_folder, write_whole
from blemish.runtimes.torch import save_weights
from tiny_product import SMALL, Average, normal_samples

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and permissions are those of POSIX")


@pytest.mark.parametrize("length", [202, 230, 250])
def test_model_name_too_long_for_its_temporary_folders_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(
        ModelError, match=r"cannot be written: File name too long\. Name another folder with -o"
    ):
        require_output(tmp_path / ("m" * length))
    require_output(tmp_path / ("m" * 201))
    assert list(tmp_path.iterdir()) == []


def test_link_to_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    link, loop = tmp_path / "link", tmp_path / "loop"
    link.symlink_to("/proc/self/m")
    with pytest.raises(ModelError, match=r"cannot be written: .*\. Name another folder"):
        require_output(link)
    loop.symlink_to(loop)
    with pytest.raises(ModelError, match="loop exists and is not a model"):
        require_output(loop)
    link.unlink()
    link.symlink_to(tmp_path / "new" / "m")
    require_output(link)


@pytest.mark.parametrize("name", [".", "../here"])
def test_model_can_be_replaced_from_inside_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "manifest.json").touch()
    monkeypatch.chdir(tmp_path / "here")
    require_output(Path(name))
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_full_disk_is_one_error_that_names_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    def save() -> None:
        with whole_folder(tmp_path / "m") as aside:
            save_weights(Average(), aside / "w")

    monkeypatch.setattr("blemish.runtimes.torch.save_file", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save()
    assert caught.value.filename == str(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [None, "model.onnx"])
def test_error_of_the_disk_names_the_model_and_not_its_temporary_folder(
    tmp_path: Path, name: str | None
) -> None:
    def fail() -> None:
        with whole_folder(tmp_path / "m") as aside, whole_file(aside / "model.onnx"):
            raise OSError(errno.ENOSPC, "No space left on device", name and str(aside / name))

    with pytest.raises(OSError, match="No space left on device") as caught:
        fail()
    assert caught.value.filename == str(tmp_path / "m")


def test_real_limit_of_the_file_system_names_the_place(tmp_path: Path) -> None:
    """A limit of file sizes, as `ulimit -f` sets, is an error like a full disk."""
    resource = pytest.importorskip("resource")
    method = Average()
    method.average = torch.zeros(1000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def save() -> None:
        with whole_folder(tmp_path / "m") as aside:
            save_weights(method, aside / "w")

    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "m")


def test_link_stays_and_its_target_gets_the_content_and_keeps_its_mode(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old", "utf-8")
    target.chmod(0o640)
    link.symlink_to(target)
    write_whole(link, "new")
    assert link.is_symlink()
    assert target.read_text("utf-8") == "new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_what_is_not_a_regular_file_is_not_replaced(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        with pytest.raises(OSError, match=re.escape(f"Not a regular file: '{path}'")), whole_file(path):
            raise AssertionError("refused before anything is written")
    assert list(tmp_path.iterdir()) == [fifo]


@pytest.mark.parametrize("name", ["", ".", "fifo"])
def test_report_that_cannot_be_written_is_refused_before_evaluating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    samples = normal_samples(tmp_path / "images", 4)
    model = blemish.fit("template", samples, preprocess=SMALL)
    with pytest.raises(OSError, match="Not a regular file"):
        blemish.evaluate(model, [replace(samples[0], path=Path("absent.png"))], report=name)


def test_leftovers_are_removed_by_the_next_write_unless_another_process_may_write_them(
    tmp_path: Path,
) -> None:
    names = [f".m.{digit * 32}.{end}" for digit, end in (("0", "old"), ("1", "partial"), ("2", "partial"))]
    for name in names:
        (tmp_path / name).mkdir()
    a_day_ago = time.time() - 24 * 3600 - 1
    os.utime(tmp_path / names[1], (a_day_ago, a_day_ago))
    with whole_folder(tmp_path / "m") as aside:
        (aside / "a").touch()
    assert {path.name for path in tmp_path.iterdir()} == {"m", names[2]}
