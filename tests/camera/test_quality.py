"""The image gate: what is measured, what is refused, and that normal images pass."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.camera.quality import QualityLimits, measure_quality
from blemish.types import Image


def textured(seed: int, size: tuple[int, int] = (60, 80), *, level: int = 120) -> Image:
    return np.random.default_rng(seed).integers(level - 40, level + 40, (*size, 3)).astype(np.uint8)


LIMITS = QualityLimits.from_normal(measure_quality(textured(seed)) for seed in range(20))


def codes(image: Image) -> list[str]:
    return [reason.code for reason in LIMITS.faults(measure_quality(image), 8.0)]


def test_what_is_measured() -> None:
    image = np.full((40, 50, 3), 51, np.uint8)
    image[:4] = 0
    image[4:8] = 255
    found = measure_quality(image)
    assert (found.size, found.bits) == ((40, 50), 8)
    assert found.saturated == pytest.approx(0.2)
    assert found.brightness == pytest.approx(0.8 * 0.2 + 0.1)
    assert found.focus == pytest.approx(np.log(cv2.Laplacian(image[..., 0], cv2.CV_64F).var() + 1e-3))


def test_16_bits_measure_what_8_bits_do() -> None:
    image = textured(0)
    shallow, deep = measure_quality(image), measure_quality(image.astype(np.uint16) * 257)
    assert (deep.bits, deep.saturated) == (16, shallow.saturated)
    assert deep.focus == pytest.approx(shallow.focus, abs=0.02)
    assert deep.brightness == pytest.approx(shallow.brightness, abs=2e-3)


def test_normal_images_pass() -> None:
    assert codes(textured(99)) == []


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (textured(1, (60, 81)), ["size"]),
        (textured(1).astype(np.uint16) * 257, ["bit_depth"]),
        (np.asarray(cv2.GaussianBlur(textured(1), (0, 0), 4.0), np.uint8), ["focus"]),
        (textured(1, level=45), ["exposure"]),
        (textured(1, level=210), ["exposure"]),
        (np.where(textured(1) > 130, 255, textured(1)).astype(np.uint8), ["exposure", "saturation"]),
        (np.zeros((60, 80, 3), np.uint8), ["focus", "exposure", "saturation"]),
    ],
)
def test_images_that_are_refused(image: Image, expected: list[str]) -> None:
    assert codes(image) == expected


def test_reasons_name_what_was_found() -> None:
    texts = [reason.text for reason in LIMITS.faults(measure_quality(np.zeros((9, 8, 3), np.uint8)), 8.0)]
    assert texts == [
        "the image has 9 × 8 pixels (height × width), which no normal image has",
        "the image is blurred: check focus, motion and the lens",
        "the image is too dark or too bright: a mean of 0%, normal is 47%",
        "100% of the pixels are black or white",
    ]


def test_limits_are_json() -> None:
    assert QualityLimits.from_json(json.dumps(LIMITS.to_dict())) == LIMITS


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8), st.integers(20, 200))
def test_identical_images_do_not_forbid_a_similar_one(seeds: list[int], level: int) -> None:
    limits = QualityLimits.from_normal(measure_quality(textured(seed, level=level)) for seed in seeds)
    assert not list(limits.faults(measure_quality(textured(1001, level=level)), 12.0))
