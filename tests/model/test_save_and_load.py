"""Model folders are written whole, replace only models, and load as the same model."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish.errors import ModelError
from blemish.files import sha256_of
from blemish.manifest import FILE, WEIGHTS, read_manifest
from blemish.model import Model
from model_folder import broken_at, files, same, stored
from scripted_model import scripted
from tiny_product import draw_part, tiny_model


def test_a_saved_model_gives_the_same_verdicts(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "产品 一号" / "my model.blemish"
    assert model.save(folder) == folder
    loaded = blemish.load(str(folder))
    assert loaded.manifest == model.manifest
    for seed in range(3):
        assert same(loaded.inspect(draw_part(seed, defect=0.3)), model.inspect(draw_part(seed, defect=0.3)))


def test_load_and_save_changes_no_byte(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "a")
    blemish.load(tmp_path / "a").save(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert set(files(tmp_path / "a")) == {FILE, stored(tmp_path / "a").name}


def test_the_manifest_lists_what_is_there(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    values = json.loads((tmp_path / "m" / FILE).read_text("utf-8"))
    assert values["files"] == {WEIGHTS: sha256_of(stored(tmp_path / "m"))}
    assert values["method"] == "average"
    assert values["arguments"] == {"gain": 1.0}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file modes")
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_permissions_follow_the_umask(model: Model, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        model.save(tmp_path / "m")
    finally:
        os.umask(before)
    expected = oct(0o666 & ~umask)
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o777 & ~umask
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in (tmp_path / "m").iterdir()} == {
        FILE: expected,
        stored(tmp_path / "m").name: expected,
    }


def test_a_model_replaces_a_model_and_nothing_else(model: Model, tmp_path: Path) -> None:
    target = tmp_path / "m"
    model.save(target)
    (target / "notes.txt").write_text("mine")
    (target / "weights.of.mine.safetensors").write_text("mine")
    tiny_model(tmp_path / "other", 4).save(target)
    assert set(files(target)) == {FILE, stored(target).name, "notes.txt", "weights.of.mine.safetensors"}
    assert read_manifest(target).data.learned_from == 4


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_other_content_is_not_overwritten(model: Model, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "photos"
    if kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "a.txt").write_text("mine")
    before = files(tmp_path)
    with pytest.raises(ModelError, match="photos exists and is not a model, so it is not overwritten"):
        model.save(target)
    assert files(tmp_path) == before


def test_empty_folder_can_be_written(model: Model, tmp_path: Path) -> None:
    """It may be a mount point, which nothing can be renamed over."""
    (tmp_path / "m").mkdir()
    inode = (tmp_path / "m").stat().st_ino
    model.save(tmp_path / "m")
    assert blemish.load(tmp_path / "m").manifest == model.manifest
    assert (tmp_path / "m").stat().st_ino == inode


def test_a_link_to_a_model_stays_a_link(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "v1")
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "v1", target_is_directory=True)
    newer = tiny_model(tmp_path / "other", 4)
    newer.save(link)
    assert link.is_symlink()
    assert read_manifest(tmp_path / "v1") == newer.manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "other", "parts", "v1"]


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        ("blemish.runtimes.torch", "save_weights", 1),
        ("blemish.files", "sha256_of", 1),
        ("blemish.model", "write_manifest", 1),
        ("pathlib.Path", "replace", 1),
        ("pathlib.Path", "replace", 2),
    ],
)
@pytest.mark.parametrize(
    "error", [OSError("no space left"), KeyboardInterrupt()], ids=["disk full", "ctrl-c"]
)
def test_an_interrupted_save_leaves_the_old_model(
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: str,
    name: str,
    call: int,
    error: BaseException,
) -> None:
    model.save(tmp_path / "m")
    before, manifest = files(tmp_path), model.manifest
    newer = tiny_model(tmp_path / "parts", 5)
    learned = newer.manifest
    target: Any = Path if owner == "pathlib.Path" else sys.modules[owner]
    with monkeypatch.context() as patch:
        broken_at(patch, target, name, call, error)
        with pytest.raises(type(error)):
            newer.save(tmp_path / "m")
    assert files(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "parts"]
    assert newer.manifest == learned
    assert blemish.load(tmp_path / "m").manifest == manifest


@pytest.mark.parametrize("call", [1, 2])
def test_an_interrupted_first_save_leaves_nothing(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    broken_at(monkeypatch, Path, "replace", call, OSError("no space left"))
    with pytest.raises(OSError, match="no space left"):
        model.save(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_only_a_model_with_its_weights_can_be_saved(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Only a model in the torch runtime can be saved\. Copy the folder"):
        scripted(model.manifest).save(tmp_path / "m")
