import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import blemish
from blemish import plugins
from blemish.data.images import write_image
from blemish.data.preprocess import Preprocess
from blemish.errors import DataError, ModelError
from blemish.files import sha256_of
from blemish.inspection.result import Inspection, Unreadable
from blemish.manifest import FILE, GRAPH, WEIGHTS, Manifest, read_manifest
from blemish.model import Model
from blemish.runtimes.torch import TorchRuntime
from blemish.types import Prediction, Sample
from tiny_product import SMALL, Average, defect_place, draw_part, normal_samples, tiny_model

Arrays = NDArray[np.float32]


@pytest.fixture(autouse=True)
def _average_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {"average": Average})


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return tiny_model(tmp_path / "parts")


class Scripted:
    """A runtime with a given prediction, for inputs of 32 × 40."""

    name = "scripted"
    device = "cpu"

    def __init__(self, answer: Callable[[Arrays], tuple[Any, Any]]) -> None:
        self.answer = answer

    def predict(self, images: Arrays) -> Prediction[Arrays]:
        return Prediction(*self.answer(images))


def scripted(
    manifest: Manifest, score: float = 1.0, peak: float = 1.0, at: tuple[int, int] = (3, 5)
) -> Model:
    """A model that gives every image this score and a flat map of 1 with one other value."""

    def answer(images: Arrays) -> tuple[Arrays, Arrays]:
        maps = np.ones((len(images), 32, 40), np.float32)
        maps[:, *at] = peak
        return np.full(len(images), score, np.float32), maps

    return Model(manifest, Scripted(answer))


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same(a: Inspection, b: Inspection) -> bool:
    return a.to_dict() == b.to_dict() and np.array_equal(a.anomaly_map, b.anomaly_map)


def test_a_defect_is_found_where_it_is(model: Model) -> None:
    size = (48, 60)
    good, bad = model.inspect(draw_part(100, size)), model.inspect(draw_part(100, size, defect=1.0))
    assert bad.score > 3 * good.score
    assert bad.verdict == "NG"
    assert bad.threshold == model.calibration.image_threshold
    rows, columns = defect_place(size)
    (region, *_) = bad.regions
    assert rows.start - 2 <= region.y <= region.peak_y < rows.stop + 2
    assert columns.start - 2 <= region.x <= region.peak_x < columns.stop + 2
    assert region.peak == bad.anomaly_map[region.peak_y, region.peak_x] == bad.anomaly_map.max()
    assert bad.anomaly_map.shape == bad.defect_mask.shape == size
    assert bad.path is None


def test_a_file_and_its_pixels_give_the_same(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "零件 1.png"
    write_image(path, draw_part(100, defect=1.0))
    asked: list[Any] = [path, str(path), Sample(path, 1, "test"), draw_part(100, defect=1.0)]
    of_path, of_text, of_sample, of_pixels = map(model.inspect, asked)
    assert of_path.path == of_text.path == of_sample.path == path
    for other in (of_text, of_sample, of_pixels):
        assert same(replace(of_path, path=None), replace(other, path=None))


def test_score_keeps_order_and_each_image_its_size(model: Model) -> None:
    sizes = [(48, 60), (31, 17), (200, 40)]
    images = [draw_part(seed, size) for seed, size in enumerate(sizes)]
    scores, maps = model.score(images)
    assert [anomaly_map.shape for anomaly_map in maps] == sizes
    for score, anomaly_map, one in zip(scores, maps, images, strict=True):
        alone = model.inspect(one)
        assert score == pytest.approx(alone.score, rel=1e-5)
        np.testing.assert_allclose(anomaly_map, alone.anomaly_map, rtol=1e-4, atol=1e-5)


def test_8_and_16_bits_get_the_same_score(model: Model) -> None:
    deep = draw_part(3).astype(np.uint16) * 257
    assert model.inspect(deep).score == pytest.approx(model.inspect(draw_part(3)).score, rel=1e-4)


@pytest.mark.parametrize(("above", "verdict"), [(-1e-6, "OK"), (0.0, "OK"), (1e-6, "NG")])
def test_ng_means_strictly_above_the_threshold(model: Model, above: float, verdict: str) -> None:
    threshold = model.calibration.image_threshold
    flat = np.zeros((4, 4), np.float32)
    assert model.judge(threshold + above, flat, draw_part(1, (4, 4))).verdict == verdict


BAD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("part", ["score", "peak"])
def test_no_verdict_on_a_number_that_is_none(model: Model, part: str, value: float) -> None:
    broken = (
        scripted(model.manifest, score=value) if part == "score" else scripted(model.manifest, peak=value)
    )
    for ask in (broken.inspect, lambda one: broken.score([one])):
        with pytest.raises(
            ModelError, match=r"NaN or infinite, so there is no verdict\. Its weights are damaged"
        ):
            ask(draw_part(1))


@pytest.mark.parametrize("value", BAD)
def test_judge_refuses_such_numbers_from_anywhere(model: Model, value: float) -> None:
    flat = np.ones((4, 5), np.float32)
    spoilt = flat.copy()
    spoilt[2, 3] = value
    for score, anomaly_map in ((value, flat), (1.0, spoilt)):
        with pytest.raises(ModelError, match="there is no verdict"):
            model.judge(score, anomaly_map, draw_part(1, (4, 5)))


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (
            lambda x: (np.ones(len(x) + 1), np.ones((len(x), 32, 40))),
            r"scores \(2,\) and maps \(1, 32, 40\) for",
        ),
        (lambda x: (np.ones((len(x), 1)), np.ones((len(x), 32, 40))), r"scores \(1, 1\)"),
        (lambda x: (np.ones(len(x)), np.ones((len(x), 40, 32))), r"maps \(1, 40, 32\)"),
        (lambda x: (np.ones(len(x)), np.ones((len(x), 1, 32, 40))), r"maps \(1, 1, 32, 40\)"),
        (lambda x: x[5], "cannot score these images: index 5 is out of bounds"),
    ],
)
def test_a_runtime_is_not_believed(
    model: Model, answer: Callable[[Arrays], tuple[Any, Any]], match: str
) -> None:
    with pytest.raises(ModelError, match=match):
        Model(model.manifest, Scripted(answer)).inspect(draw_part(1))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 1), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4, 5, 3), np.int64),
        np.zeros((1, 4, 5, 3), np.uint8),
    ],
)
def test_other_arrays_than_images_are_refused(model: Model, image: Any) -> None:
    with pytest.raises(DataError, match=r"An image is an \(H, W, 3\) RGB array of uint8 or uint16, got \("):
        model.inspect(image)


def test_a_file_that_is_no_image_is_a_data_error(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(DataError, match=r"a\.png is not a PNG"):
        model.inspect(tmp_path / "a.png")


def test_many_images_come_in_order_and_bad_ones_in_their_place(model: Model, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write_image(tmp_path / f"{seed}.png", draw_part(seed, (40 + seed, 50), defect=seed % 2))
    folder = tmp_path / "folder"
    (folder / "empty").mkdir(parents=True)
    for seed in (10, 9):
        write_image(folder / f"{seed}.png", draw_part(seed))
    (tmp_path / "bad.png").write_text("text")
    array, bad_array = draw_part(7), np.zeros((4, 5), np.uint8)
    images: list[Any] = [
        tmp_path / "0.png",
        str(tmp_path / "1.png"),
        tmp_path / "bad.png",
        array,
        bad_array,
        Sample(tmp_path / "2.png", 0, "test"),
        folder,
        folder / "empty",
        tmp_path / "absent.png",
    ]
    found = list(model.inspect_many(images))
    read = ["0.png", "1.png", None, "2.png", "folder/9.png", "folder/10.png"]
    expected = [model.inspect(array if name is None else tmp_path / name) for name in read]
    readable = [one for one in found if isinstance(one, Inspection)]
    for one, alone in zip(readable, expected, strict=True):
        assert (one.path, one.verdict, one.regions) == (alone.path, alone.verdict, alone.regions)
        assert one.score == pytest.approx(alone.score, rel=1e-5)
        np.testing.assert_array_equal(one.image, alone.image)
    bad = {index: one for index, one in enumerate(found) if isinstance(one, Unreadable)}
    assert {index: (one.path, str(one.error)) for index, one in bad.items()} == {
        2: (
            tmp_path / "bad.png",
            f"{tmp_path / 'bad.png'} is not a PNG, JPEG, BMP, TIFF or WebP image, whatever its name. Convert it or "
            "remove it.",
        ),
        4: (
            None,
            "An image is an (H, W, 3) RGB array of uint8 or uint16, got (4, 5) of uint8. Convert it, or give the path "
            "of a file.",
        ),
        8: (
            folder / "empty",
            f"{folder / 'empty'} holds no images. Name an image, or a folder that holds images.",
        ),
        9: (tmp_path / "absent.png", f"{tmp_path / 'absent.png'} does not exist. Check the path."),
    }


def test_a_single_path_or_array_is_not_taken_for_many(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    normal_samples(folder, 2)
    assert [found.path for found in model.inspect_many(str(folder))] == [
        folder / "000.png",
        folder / "001.png",
    ]
    assert [found.path for found in model.inspect_many(folder / "001.png")] == [folder / "001.png"]
    assert len(list(model.inspect_many(draw_part(0)))) == 1


def test_many_images_are_taken_as_they_are_needed(model: Model) -> None:
    model.manifest = model.manifest.changed(preprocess=Preprocess(size=(256, 256)))
    model.runtime = Scripted(
        lambda images: (np.ones(len(images), np.float32), np.ones((len(images), 256, 256), np.float32))
    )
    taken: list[int] = []

    def images() -> Iterator[Any]:
        for seed in range(1000):
            taken.append(seed)
            yield draw_part(0)

    assert isinstance(next(model.inspect_many(images())), Inspection)
    assert len(taken) < 20


def test_padding_gets_no_region(tmp_path: Path) -> None:
    """Kept aspect ratio: 40 × 40 input, 20 × 40 image; the map comes back without the padding."""
    samples = normal_samples(tmp_path, 4)
    model = blemish.fit(Average(), samples, preprocess=Preprocess(size=(40, 40), resize="fit"))
    found = model.inspect(draw_part(9, (30, 60), defect=1.0))
    assert found.anomaly_map.shape == (30, 60)
    assert found.verdict == "NG"


# Saving and loading


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
    assert set(files(tmp_path / "a")) == {FILE, WEIGHTS}


def test_the_manifest_lists_what_is_there(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    values = json.loads((tmp_path / "m" / FILE).read_text("utf-8"))
    assert values["files"] == {WEIGHTS: sha256_of(tmp_path / "m" / WEIGHTS)}
    assert values["method"] == "average"
    assert values["arguments"] == {"gain": 1.0}


def test_a_model_replaces_a_model_and_nothing_else(model: Model, tmp_path: Path) -> None:
    target = tmp_path / "m"
    model.save(target)
    (target / "stray.txt").write_text("another file")
    tiny_model(tmp_path / "other", 4).save(target)
    assert set(files(target)) == {FILE, WEIGHTS}
    assert read_manifest(target).data.learned_from == 3


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file"])
def test_other_content_is_not_overwritten(model: Model, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "photos"
    if kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
    if kind == "folder":
        (target / "a.txt").write_text("mine")
    before = files(tmp_path)
    with pytest.raises(ModelError, match="photos exists and is not a model, so it is not overwritten"):
        model.save(target)
    assert files(tmp_path) == before


def test_a_link_to_a_model_stays_a_link(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "v1")
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "v1", target_is_directory=True)
    newer = tiny_model(tmp_path / "other", 4)
    newer.save(link)
    assert link.is_symlink()
    assert read_manifest(tmp_path / "v1") == newer.manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "other", "parts", "v1"]


def broken_at(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, error: BaseException
) -> None:
    """The given call of a function raises, the others work."""
    original = getattr(owner, name)
    calls = 0

    def sometimes(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, sometimes)


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        ("blemish.runtimes.torch", "save_weights", 1),
        ("blemish.model", "sha256_of", 1),
        ("blemish.model", "write_manifest", 1),
        ("pathlib.Path", "replace", 1),
        ("pathlib.Path", "rename", 1),
        ("pathlib.Path", "rename", 2),
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


def test_an_interrupted_first_save_leaves_nothing(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_at(monkeypatch, Path, "rename", 1, OSError("no space left"))
    with pytest.raises(OSError, match="no space left"):
        model.save(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_only_a_model_with_its_weights_can_be_saved(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Only a model in the torch runtime can be saved\. Copy the folder"):
        scripted(model.manifest).save(tmp_path / "m")


def test_an_unknown_runtime_is_refused(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    with pytest.raises(ModelError, match=r"There is no runtime 'tensorrt'\. Choose one of: torch, onnx"):
        blemish.load(tmp_path / "m", runtime="tensorrt")
    with pytest.raises(
        ModelError, match=r"holds no model\.onnx\. Export the model to that runtime, or use another"
    ):
        blemish.load(tmp_path / "m", runtime="onnx")


# Recalibration


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"false_alarm_rate": 0.5}, lambda c: c.with_false_alarm_rate(0.5)),
        ({"image": 9.0}, lambda c: c.changed(image_threshold=9.0)),
        ({"pixel": 8.0}, lambda c: c.changed(pixel_threshold=8.0)),
        (
            {"false_alarm_rate": 0.5, "image": 9.0},
            lambda c: c.with_false_alarm_rate(0.5).changed(image_threshold=9.0),
        ),
    ],
)
def test_recalibration_changes_the_thresholds_only(
    tmp_path: Path, changes: dict[str, float], expected: Callable[[Any], Any]
) -> None:
    model = blemish.fit(
        Average(), normal_samples(tmp_path / "parts", 8), preprocess=SMALL, hold_out_share=0.5
    )
    folder = model.save(tmp_path / "m")
    weights = folder / WEIGHTS
    status, content = weights.stat(), weights.read_bytes()
    manifest = blemish.recalibrate(folder, **changes)
    assert manifest == model.manifest.changed(calibration=expected(model.calibration))
    assert blemish.load(folder).manifest == manifest
    assert weights.read_bytes() == content
    assert (weights.stat().st_mtime_ns, weights.stat().st_ino) == (status.st_mtime_ns, status.st_ino)
    assert sorted(path.name for path in folder.iterdir()) == [FILE, WEIGHTS]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"false_alarm_rate": 0.0}, "between 0 and 1"),
        ({"false_alarm_rate": float("nan")}, "between 0 and 1"),
        ({"image": float("nan")}, "must be a finite number"),
        ({"pixel": float("inf")}, "must be a finite number"),
    ],
)
def test_impossible_thresholds_change_nothing(
    model: Model, tmp_path: Path, changes: dict[str, float], match: str
) -> None:
    model.save(tmp_path / "m")
    before = files(tmp_path / "m")
    with pytest.raises(ValueError, match=match):
        blemish.recalibrate(tmp_path / "m", **changes)
    assert files(tmp_path / "m") == before


def test_an_interrupted_recalibration_leaves_the_old_thresholds(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save(tmp_path / "m")
    before = files(tmp_path / "m")
    broken_at(monkeypatch, Path, "replace", 1, OSError("no space left"))
    with pytest.raises(OSError, match="no space left"):
        blemish.recalibrate(tmp_path / "m", false_alarm_rate=0.5)
    assert files(tmp_path / "m") == before


# Runtimes


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the catalogue, saved with its graph."""
    folder = tmp_path_factory.mktemp("exported")
    samples = normal_samples(folder / "parts", 8)
    model = blemish.fit("variation", samples, preprocess=Preprocess(size=(40, 40), resize="fit"))
    return model.save(folder / "模型", onnx=True)


def test_torch_and_onnx_agree(exported: Path) -> None:
    assert set(files(exported)) == set(read_manifest(exported).files) | {FILE} == {FILE, GRAPH, WEIGHTS}
    by_torch, by_onnx = blemish.load(exported), blemish.load(exported, runtime="onnx")
    assert by_torch.manifest == by_onnx.manifest
    cases: Sequence[tuple[int, int]] = [(48, 60), (60, 30), (40, 40)]
    images = [draw_part(seed, size, defect) for seed, size in enumerate(cases) for defect in (0.0, 1.0)]
    (scores, maps), (onnx_scores, onnx_maps) = by_torch.score(images), by_onnx.score(images)
    np.testing.assert_allclose(onnx_scores, scores, rtol=1e-3)
    for a, b in zip(maps, onnx_maps, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-3 * float(a.max()))
    assert [by_onnx.inspect(p).verdict for p in images] == [by_torch.inspect(p).verdict for p in images]


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it now fails
import json, blemish
model = blemish.load(sys.argv[1], runtime="onnx")
print(json.dumps(model.inspect(sys.argv[2]).to_dict()))
"""


def test_inspection_needs_no_torch(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "坏 part.png"
    write_image(path, draw_part(100, defect=1.0))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, exported, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found, expected = json.loads(done.stdout), blemish.load(exported).inspect(path).to_dict()
    assert found["path"] == str(path)
    assert found["verdict"] == expected["verdict"] == "NG"
    assert found["score"] == pytest.approx(expected["score"], rel=1e-3)
    assert len(found["regions"]) == len(expected["regions"]) > 0


def test_an_onnx_model_is_not_saved_again(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Only a model in the torch runtime can be saved"):
        blemish.load(exported, runtime="onnx").save(tmp_path / "m")


def test_the_runtime_runs_on_the_device_asked_for(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    loaded = blemish.load(tmp_path / "m", device="cpu")
    assert isinstance(loaded.runtime, TorchRuntime)
    assert {tensor.device.type for tensor in loaded.runtime.method.state_dict().values()} == {"cpu"}
    assert not loaded.runtime.method.training
