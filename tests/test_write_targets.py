"""Every place that cannot be written is refused before any work, and links and permissions stay."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

import blemish
from blemish.cli.fit_output import require_output
from blemish.errors import ModelError
from blemish.files import store, whole_file, write_whole
from blemish.runtimes.torch import save_weights
from example_manifest import manifest
from tiny_product import SMALL, Average, normal_samples

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and permissions are those of POSIX")


def test_model_name_too_long_for_its_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"cannot be written: File name too long\. Name another folder with -o"
    ):
        require_output(tmp_path / ("m" * 244))
    require_output(tmp_path / ("m" * 243))
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
    (tmp_path / "here" / "manifest.json").write_text(json.dumps(manifest().to_dict()))
    monkeypatch.chdir(tmp_path / "here")
    require_output(Path(name))
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="a file system of Linux")
def test_a_file_in_shared_memory_is_replaced_and_not_rewritten() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "manifest.json"
        path.write_text("old")
        opened = path.open()
        write_whole(path, "new")
        assert (opened.read(), path.read_text()) == ("old", "new")
        opened.close()


def test_full_disk_is_one_error_that_names_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("blemish.runtimes.torch.save_file", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        store(tmp_path, "w", partial(save_weights, Average()))
    assert caught.value.filename == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("named", [False, True])
def test_error_of_the_disk_names_the_model_and_not_its_temporary_file(tmp_path: Path, named: bool) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path) if named else None)

    with pytest.raises(OSError, match="No space left on device") as caught:
        store(tmp_path, "model.onnx", fail)
    assert caught.value.filename == str(tmp_path)


def test_real_limit_of_the_file_system_names_the_place(tmp_path: Path) -> None:
    """A limit of file sizes, as `ulimit -f` sets, is an error like a full disk."""
    resource = pytest.importorskip("resource")
    method = Average()
    method.average = torch.zeros(1000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            store(tmp_path, "w", partial(save_weights, method))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_link_stays_and_its_target_gets_the_content_and_keeps_its_mode(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old", "utf-8")
    target.chmod(0o640)
    link.symlink_to(target)
    write_whole(link, "new")
    assert link.is_symlink()
    assert target.read_text("utf-8") == "new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_pipe_gets_the_content_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(pipe.read_text, "utf-8")
        write_whole(pipe, "content")
        assert reader.result() == "content"
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_device_stays_a_device() -> None:
    write_whole(Path("/dev/null"), "content")
    assert Path("/dev/null").is_char_device()


def test_redirected_stdout_gets_the_content(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from blemish.files import write_whole; "
        "write_whole(Path('/dev/stdout'), 'content')"
    )
    result = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert result.stdout == b"content"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"content"


def test_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="Is a folder, not a file"), whole_file(tmp_path / "folder"):
        raise AssertionError("refused before anything is written")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("name", ["", "."])
def test_report_that_cannot_be_written_is_refused_before_evaluating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    samples = normal_samples(tmp_path / "images", 4)
    model = blemish.fit("template", samples, preprocess=SMALL)
    with pytest.raises(OSError, match="Is a folder, not a file"):
        blemish.evaluate(model, [replace(samples[0], path=Path("absent.png"))], report=name)
