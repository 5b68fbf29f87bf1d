"""Changes of one model folder: one at a time, none is lost, and readers see a whole model."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import blemish
from blemish.data.images import write_image
from blemish.data.preprocess import Preprocess
from blemish.errors import ModelError
from blemish.manifest import FILE, FORMER, GRAPH, read_manifest
from blemish.model import Model
from blemish.model_folder import changing, checked_file, undo
from blemish.runtimes import export
from model_folder import broken_at, files, stored
from tiny_product import draw_part, normal_samples, tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that can be updated."""
    method = blemish.PatchCore(backbone="compact:random", coreset_ratio=0.5)
    samples = normal_samples(tmp_path / "learned", 4)
    return blemish.fit(method, samples, preprocess=Preprocess(size=(32, 32))).save(tmp_path / "model")


def learn_another(model: Model, path: Path) -> Model:
    write_image(path, draw_part(900 + len(str(path))))
    blemish.update(model, [path], accept_ng=True)
    return model


def updated(folder: Path, image: Path) -> Model:
    return learn_another(blemish.load(folder), image)


@pytest.mark.parametrize("content", ['{"name": "web app", "format": 1}', "", "no JSON", "[]"])
def test_a_foreign_manifest_makes_no_folder_a_model(folder: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "app").mkdir()
    for name in (FILE, FORMER, GRAPH):
        (tmp_path / "app" / name).write_text(content)
    kept = files(tmp_path / "app")
    with pytest.raises(ModelError, match="app exists and is not a model, so it is not overwritten"):
        blemish.load(folder).save(tmp_path / "app")
    assert files(tmp_path / "app") == kept


def test_a_file_of_a_plain_name_that_no_manifest_names_stays(folder: Path) -> None:
    (folder / GRAPH).write_text("another program's")
    blemish.recalibrate(folder, image=5.0)
    assert (folder / GRAPH).read_text() == "another program's"


def test_second_of_two_updates_is_refused_and_the_first_is_kept(folder: Path, tmp_path: Path) -> None:
    first, second = (updated(folder, tmp_path / name) for name in ("new.png", "newer.png"))
    first.save(folder)
    kept = files(folder)
    with pytest.raises(
        ModelError,
        match=r"model was changed by another process since it was loaded, so nothing was written\. Load it and make",
    ):
        second.save(folder)
    assert files(folder) == kept
    assert blemish.load(folder).manifest == first.manifest


def test_calibration_during_an_update_is_kept(folder: Path, tmp_path: Path) -> None:
    model = updated(folder, tmp_path / "new.png")
    blemish.recalibrate(folder, image=5.0)
    with pytest.raises(ModelError, match="was changed by another process"):
        model.save(folder)
    assert blemish.load(folder).calibration.image_threshold == 5.0


def test_model_can_be_saved_again_and_elsewhere(folder: Path, tmp_path: Path) -> None:
    model = updated(folder, tmp_path / "new.png")
    model.save(folder)
    learn_another(model, tmp_path / "newer.png")
    model.save(folder)
    model.save(tmp_path / "copy")
    assert blemish.load(folder).manifest == blemish.load(tmp_path / "copy").manifest
    assert len(model.manifest.history.updates) == 2


def test_fitted_model_replaces_whatever_model_is_there(folder: Path, tmp_path: Path) -> None:
    updated(folder, tmp_path / "new.png").save(folder)
    other = tiny_model(tmp_path / "other", 4)
    other.save(folder)
    assert set(files(folder)) == {FILE, stored(folder).name}
    assert blemish.load(folder).manifest == other.manifest


def test_update_is_undone_and_done_again(folder: Path, tmp_path: Path) -> None:
    before, weights = read_manifest(folder), stored(folder)
    updated(folder, tmp_path / "new.png").save(folder)
    after = read_manifest(folder)
    assert set(files(folder)) == {FILE, FORMER, weights.name, stored(folder).name}
    assert undo(folder) == before == blemish.load(folder).manifest
    assert undo(folder) == after == blemish.load(folder).manifest
    blemish.recalibrate(folder, image=5.0)
    updated(folder, tmp_path / "newer.png").save(folder)
    assert not weights.exists(), "the version before the former one is removed"
    assert undo(folder).calibration.image_threshold == 5.0


def test_undo_without_a_former_version_or_with_a_damaged_one_changes_nothing(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        ModelError, match=r"model has no former version\. Only the latest update of a model can be"
    ):
        undo(folder)
    weights = stored(folder)
    updated(folder, tmp_path / "new.png").save(folder)
    weights.write_bytes(b"damaged")
    before = files(folder)
    with pytest.raises(ModelError, match="its sha256 differs"):
        undo(folder)
    assert files(folder) == before
    with pytest.raises(ModelError, match="nowhere is not a model"):
        undo(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_remains_of_a_killed_writer_are_removed_by_the_next_change(folder: Path) -> None:
    kept = set(files(folder))
    for name in (
        f".{'0' * 32}.partial",
        "weights.0123456789abcdef.safetensors",
        "model.0123456789abcdef.onnx",
    ):
        (folder / name).touch()
    (folder / ".lock").touch()
    blemish.recalibrate(folder, image=5.0)
    assert set(files(folder)) == kept


@pytest.mark.parametrize("name", [FILE, FORMER])
def test_nothing_is_removed_and_no_other_error_raised_if_a_manifest_cannot_be_read(
    folder: Path, name: str
) -> None:
    (folder / name).write_text("{", "utf-8")
    before = files(folder)
    with pytest.raises(OSError, match="no space left"), changing(folder):
        raise OSError("no space left")
    assert files(folder) == before


def test_reader_of_a_model_that_is_replaced_reads_it_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = tiny_model(tmp_path / "other", 5)

    def replaced_meanwhile(*args: Any) -> Path:
        monkeypatch.setattr("blemish.model.checked_file", checked_file)
        newer.save(folder)
        return checked_file(*args)

    monkeypatch.setattr("blemish.model.checked_file", replaced_meanwhile)
    assert blemish.load(folder).manifest == newer.manifest


def test_readers_see_the_old_or_the_new_model(folder: Path, tmp_path: Path) -> None:
    models = [tiny_model(tmp_path / str(number), number) for number in (4, 5, 6)]
    known = [read_manifest(folder), *(model.manifest for model in models)]
    done = threading.Event()

    def read(_: int) -> int:
        number = 0
        while not done.is_set():
            assert blemish.load(folder).manifest.data in [manifest.data for manifest in known]
            number += 1
        return number

    with ThreadPoolExecutor(2) as pool:
        readers = pool.map(read, range(2))
        for _ in range(10):
            for model in models:
                model._saved = None  # as if just fitted
                model.save(folder)
        done.set()
        assert min(readers) > 0


def test_a_folder_of_an_earlier_version_with_plain_names_is_replaced(folder: Path, tmp_path: Path) -> None:
    old, values = stored(folder), json.loads((folder / FILE).read_text("utf-8"))
    old.rename(folder / "weights.safetensors")
    assert blemish.load(folder).manifest.files == values["files"]
    updated(folder, tmp_path / "new.png").save(folder)
    assert undo(folder) == read_manifest(folder)
    tiny_model(tmp_path / "other", 6).save(folder)
    assert set(files(folder)) == {FILE, stored(folder).name}


@pytest.mark.parametrize("had_graph", [False, True])
def test_failed_export_costs_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, had_graph: bool
) -> None:
    folder, newer = tmp_path / "m", tiny_model(tmp_path / "other", 5)
    tiny_model(tmp_path / "parts").save(folder, onnx=had_graph)
    before = files(folder)
    broken_at(monkeypatch, export, "_traced", 1, ModelError("torch cannot trace it."))
    with pytest.raises(ModelError, match="torch cannot trace it"):
        newer.save(folder, onnx=True)
    assert blemish.load(folder).manifest == newer.manifest
    assert GRAPH not in newer.manifest.files
    assert files(folder) != before


def test_folder_that_is_changed_cannot_be_changed_from_elsewhere_meanwhile(folder: Path) -> None:
    order = []

    def wait() -> None:
        blemish.recalibrate(folder, image=5.0)
        order.append("second")

    with ThreadPoolExecutor(1) as pool:
        with changing(folder):
            waiting = pool.submit(wait)
            threading.Event().wait(0.1)
            order.append("first")
        waiting.result()
    assert order == ["first", "second"]
