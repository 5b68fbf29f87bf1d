"""Geometry, values and stored settings of preprocessing."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blemish.data.preprocess import Preprocess, resize_area_correct


def centroid(weights: NDArray[Any]) -> tuple[float, float]:
    rows, columns = np.indices(weights.shape)
    return float((rows * weights).sum() / weights.sum()), float((columns * weights).sum() / weights.sum())


def image_with_square(size: tuple[int, int], top: int, left: int, side: int) -> NDArray[np.uint8]:
    image = np.zeros((*size, 3), np.uint8)
    image[top : top + side, left : left + side] = 255
    return image


@pytest.mark.parametrize(
    ("preprocess", "size"),
    [
        (Preprocess(size=(256, 256)), (900, 900)),
        (Preprocess(size=(256, 256)), (131, 517)),
        (Preprocess(size=(64, 320)), (400, 100)),
        (Preprocess(size=(256, 256), resize="fit"), (140, 601)),
        (Preprocess(size=(256, 256), resize="fit"), (601, 143)),
        (Preprocess(size=(257, 200), resize="fit"), (90, 61)),
        (Preprocess(size=(256, 256), crop=(224, 224)), (900, 700)),
        (Preprocess(size=(255, 256), crop=(224, 223)), (333, 512)),
        (Preprocess(size=(256, 256), resize="fit", crop=(224, 200)), (500, 640)),
    ],
    ids=lambda value: (
        "x".join(map(str, value)) if isinstance(value, tuple) else f"{value.resize}{value.size}{value.crop}"
    ),
)
def test_a_square_comes_back_where_it_was(preprocess: Preprocess, size: tuple[int, int]) -> None:
    side = 24
    for top, left in ((size[0] // 3, size[1] // 3), (size[0] // 2 - 7, size[1] // 4)):
        image = image_with_square(size, top, left, side)
        network_input = preprocess(image)
        assert network_input.shape == (3, *preprocess.output_size)
        assert network_input.dtype == np.float32
        restored = preprocess.restore(network_input[0], size)
        assert restored.shape == size
        assert restored.dtype == np.float32
        row, column = centroid(restored)
        assert abs(row - (top + (side - 1) / 2)) < 0.5
        assert abs(column - (left + (side - 1) / 2)) < 0.5


def test_padding_is_nan_and_only_padding() -> None:
    wide = Preprocess(size=(100, 100), resize="fit")(np.full((50, 200, 3), 128, np.uint8))
    padded = np.asarray(np.isnan(wide).all(axis=0))
    np.testing.assert_array_equal(np.isnan(wide).any(axis=0), padded)
    np.testing.assert_array_equal(np.all(padded, axis=1), [row < 37 or row >= 62 for row in range(100)])
    tall = Preprocess(size=(100, 80), resize="fit")(np.full((300, 60, 3), 128, np.uint8))
    assert np.isfinite(tall[:, :, 30:50]).all()
    assert np.isnan(tall[:, :, :30]).all()
    assert np.isnan(tall[:, :, 50:]).all()
    assert np.isfinite(Preprocess()(np.zeros((30, 90, 3), np.uint8))).all()


def test_padding_never_reaches_a_restored_map() -> None:
    preprocess = Preprocess(size=(64, 64), resize="fit")
    anomaly_map = np.full((64, 64), np.nan, np.float32)
    anomaly_map[24:40] = 2.0
    np.testing.assert_array_equal(preprocess.restore(anomaly_map, (100, 400)), np.full((100, 400), 2.0))


def test_what_the_crop_left_out_gets_the_minimum() -> None:
    preprocess = Preprocess(size=(10, 10), crop=(6, 6))
    anomaly_map = np.arange(36, dtype=np.float32).reshape(6, 6) + 5
    restored = preprocess.restore(anomaly_map, (10, 10))
    np.testing.assert_array_equal(restored[2:8, 2:8], anomaly_map)
    restored[2:8, 2:8] = 5
    np.testing.assert_array_equal(restored, np.full((10, 10), 5))


def test_range_and_channel_order() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[:] = (255, 51, 0)
    np.testing.assert_allclose(Preprocess(size=(4, 4))(image)[:, 2, 1], [1.0, 0.2, 0.0], rtol=1e-6)


@pytest.mark.parametrize("resize", ["squash", "fit"])
def test_marks_are_placed_where_the_image_shows_them(resize: Any) -> None:
    marked = np.zeros((40, 80), np.bool_)
    marked[10:20, 20:60] = True
    placed = Preprocess(size=(40, 40), resize=resize).place(marked)
    expected = np.zeros((40, 40), np.bool_)
    rows = slice(10, 20) if resize == "squash" else slice(10 + 5, 10 + 10)
    expected[rows, 10:30] = True
    assert placed.dtype == np.bool_
    np.testing.assert_array_equal(placed, expected)


@pytest.mark.parametrize("resize", ["squash", "fit"])
def test_8_and_16_bits_agree(resize: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (61, 83, 3)).astype(np.uint8)
    preprocess = Preprocess(size=(40, 96), resize=resize)
    shallow, deep = preprocess(image), preprocess(image.astype(np.uint16) * np.uint16(257))
    np.testing.assert_allclose(deep, shallow, atol=1e-6)
    np.testing.assert_array_equal(preprocess(image), shallow)


def area_weights(source: int, target: int) -> NDArray[np.float64]:
    """Exact overlap of each target cell with each source cell."""
    weights = np.zeros((target, source))
    for index in range(target):
        start, stop = index * source / target, (index + 1) * source / target
        for cell in range(source):
            weights[index, cell] = max(0.0, min(stop, cell + 1) - max(start, cell))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def linear_weights(source: int, target: int) -> NDArray[np.float64]:
    """Bilinear weights with half-pixel centres."""
    weights = np.zeros((target, source))
    for index in range(target):
        place = min(max((index + 0.5) * source / target - 0.5, 0), source - 1)
        low = min(int(place), source - 1)
        weights[index, low] += 1 - (place - low)
        weights[index, min(low + 1, source - 1)] += place - low
    return weights


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.integers(1, 40)] * 4), st.integers(0, 9))
def test_each_axis_is_resized_the_right_way(sides: tuple[int, int, int, int], seed: int) -> None:
    height, width, new_height, new_width = sides
    pixels = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    rows = (area_weights if new_height < height else linear_weights)(height, new_height)
    columns = (area_weights if new_width < width else linear_weights)(width, new_width)
    expected = np.einsum("ai,ijc,bj->abc", rows, pixels, columns)
    # OpenCV leaves out overlaps below a thousandth of a cell, hence the tolerance.
    np.testing.assert_allclose(resize_area_correct(pixels, (new_height, new_width)), expected, atol=2e-3)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(8, 60), st.integers(8, 60)),
    st.sampled_from(["squash", "fit"]),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.booleans(),
)
def test_constant_images_stay_constant(
    size: tuple[int, int], resize: Any, original: tuple[int, int], cropped: bool
) -> None:
    crop = (size[0] - 3, size[1] - 5) if cropped else None
    preprocess = Preprocess(size=size, resize=resize, crop=crop)
    network_input = preprocess(np.full((*original, 3), 51, np.uint8))
    assert np.isfinite(network_input).any()
    restored = preprocess.restore(network_input[1], original)
    np.testing.assert_allclose(restored, np.full(original, 0.2), atol=1e-5)
    assert Preprocess.from_json(json.dumps(preprocess.to_dict())) == preprocess


def test_restore_wants_the_right_map() -> None:
    with pytest.raises(ValueError, match=r"anomaly_map must be \(224, 224\), got \(256, 256\)"):
        Preprocess(crop=(224, 224)).restore(np.zeros((256, 256), np.float32), (10, 10))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"size": [0, 256]},
            r"size must be \(height, width\) after resizing, whole numbers from 1 to 16384, got 0\.",
        ),
        ({"size": [256]}, "size must be"),
        ({"size": [256.0, 256]}, "size must be"),
        ({"size": [True, 256]}, "size must be"),
        ({"size": "ab"}, "size must be"),
        ({"size": [16385, 1]}, "size must be"),
        ({"crop": [300, 10]}, r"crop \(300, 10\) must not be larger than size \(256, 256\)"),
        ({"crop": 4}, "crop must be"),
        ({"resize": "stretch"}, 'resize must be "squash" or "fit", got \'stretch\''),
        ({"resize": ["fit"]}, "resize must be"),
        ({"mean": [0.485, 0.456, 0.406]}, "mean is unknown"),
        ({"padding": 0}, "padding is unknown"),
        ({"padding": 0, "size": [1, "1"]}, "size must be .*, got '1'; padding is unknown"),
    ],
)
def test_stored_settings_are_not_trusted(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text) as error:
        Preprocess.from_json(json.dumps(Preprocess().to_dict() | change))
    assert "\n" not in str(error.value)


def test_a_missing_key_and_no_mapping() -> None:
    stored = Preprocess().to_dict()
    del stored["crop"]
    with pytest.raises(ValueError, match=r"^crop is missing\.$"):
        Preprocess.from_json(json.dumps(stored))
    for broken in (None, [1, 2]):
        with pytest.raises(ValueError, match="it must be a JSON object, got "):
            Preprocess.from_json(json.dumps(broken))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"size": (0, 256)},
            "size must be (height, width) after resizing, whole numbers from 1 to 16384, got 0.",
        ),
        (
            {"size": [256, 256]},
            "size must be (height, width) after resizing, whole numbers from 1 to 16384, got [256, 256].",
        ),
        (
            {"size": (np.int64(3), 4.0)},
            "size must be (height, width) after resizing, whole numbers from 1 to 16384, got np.int64(3).",
        ),
        ({"crop": (300, 10)}, "crop (300, 10) must not be larger than size (256, 256)."),
        ({"resize": "stretch"}, 'resize must be "squash" or "fit", got \'stretch\'.'),
        ({"mean": (0.5, 0.5, 0.5)}, "mean is unknown."),
    ],
)
def test_a_wrong_value_in_python_is_one_sentence(settings: Any, text: str) -> None:
    with pytest.raises(ValueError) as error:
        Preprocess(**settings)
    assert str(error.value) == text
    with pytest.raises(ValueError) as error:
        Preprocess().changed(**settings)
    assert str(error.value) == text


def test_settings_cannot_be_changed_afterwards_but_copied() -> None:
    preprocess = Preprocess(size=(320, 432))
    with pytest.raises(
        AttributeError, match=r"Preprocess cannot be changed\. Make a copy with another value"
    ):
        preprocess.size = (1, 1)
    assert preprocess.changed(resize="fit") == Preprocess(size=(320, 432), resize="fit")
    assert hash(preprocess) == hash(Preprocess(size=(320, 432)))
