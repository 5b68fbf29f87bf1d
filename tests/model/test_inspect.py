"""`Model.inspect`, `score` and `judge` on one image."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blemish
from blemish.data.dataset import Dataset
from blemish.data.images import write_image
from blemish.data.preprocess import Preprocess
from blemish.errors import DataError, ModelError
from blemish.model import Model
from blemish.types import Sample
from model_folder import same
from scripted_model import Arrays, Scripted, scripted
from tiny_product import Average, defect_place, draw_part, normal_samples


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
            ModelError, match=r"NaN or infinite, so there is no verdict\. Inspect another image: if that"
        ):
            ask(draw_part(1))


def test_judge_refuses_a_map_of_another_size(model: Model) -> None:
    with pytest.raises(DataError, match=r"The map has the shape \(3, 3\), the image \(4, 5\)"):
        model.judge(1.0, np.ones((3, 3), np.float32), draw_part(1, (4, 5)))


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
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4, 5, 3), np.int64),
        np.zeros((1, 4, 5, 3), np.uint8),
    ],
)
def test_other_arrays_than_images_are_refused(model: Model, image: Any) -> None:
    with pytest.raises(DataError, match=r"An image is an \(H, W, 3\) RGB or \(H, W\) grey array of uint8"):
        model.inspect(image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_arrays_are_images_with_equal_channels(model: Model, dtype: Any) -> None:
    grey = draw_part(3, defect=0.3)[:, :, 1].astype(dtype) * dtype(np.iinfo(dtype).max // 255)
    expected = model.inspect(np.repeat(grey[:, :, None], 3, axis=2))
    for image in (grey, grey[:, :, None]):
        found = model.inspect(image)
        assert same(found, expected)
        assert found.image.shape == (*grey.shape, 3)
        scores, maps = model.score([image, expected.image])
        assert scores == [expected.score] * 2
        np.testing.assert_array_equal(model.judge(scores[0], maps[0], image).overlay(), expected.overlay())


@pytest.mark.parametrize("image", [draw_part(1), draw_part(1)[:, :, 0]])
def test_rows_of_an_array_are_not_images(model: Model, image: Any) -> None:
    text = f"score takes a list of images, got one array of shape {image.shape}. Write score([image])."
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        model.score(image)
    stack: Any = np.stack([draw_part(1)] * 2)
    assert model.score(stack)[0] == model.score(list(stack))[0]


def test_reversed_channels_are_scored_and_drawn(model: Model) -> None:
    rgb = draw_part(100, defect=1.0)
    found = model.inspect(np.ascontiguousarray(rgb[..., ::-1])[..., ::-1])
    assert same(found, model.inspect(rgb))
    np.testing.assert_array_equal(found.overlay(), model.inspect(rgb).overlay())


@pytest.mark.parametrize("image", [None, 5, Dataset(Path("folder"), "folder", ()), {"a": 1}])
def test_what_is_no_image_is_named(model: Model, image: Any) -> None:
    text = f"^An image is a path, a sample or an array, got {type(image).__name__}\\. Of a data set, give its samples"
    with pytest.raises(DataError, match=text):
        model.inspect(image)
    if not isinstance(image, dict):
        with pytest.raises(DataError, match=text):
            list(model.inspect_many(image))


def test_a_file_that_is_no_image_is_a_data_error(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(DataError, match=r"a\.png is not a PNG"):
        model.inspect(tmp_path / "a.png")


def test_padding_gets_no_region(tmp_path: Path) -> None:
    """Kept aspect ratio: 40 × 40 input, 20 × 40 image; the map comes back without the padding."""
    samples = normal_samples(tmp_path, 4)
    model = blemish.fit(Average(), samples, preprocess=Preprocess(size=(40, 40), resize="fit"))
    found = model.inspect(draw_part(9, (30, 60), defect=1.0))
    assert found.anomaly_map.shape == (30, 60)
    assert found.verdict == "NG"
