"""The colour scale is absolute, and normal pixels of the image are unchanged."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.inspection.heatmap import colour_bar, overlay

GREY = np.full((8, 10, 3), 120, np.uint8)


def luminance(color: np.ndarray) -> float:
    return float(color.astype(float) @ [0.2126, 0.7152, 0.0722])


@settings(deadline=None, max_examples=30)
@given(value=st.floats(0, 3, width=32), other=st.floats(-2, 50, width=32))
def test_a_value_has_the_same_color_whatever_else_is_on_the_map(value: float, other: float) -> None:
    alone = np.full((8, 10), value, np.float32)
    beside = np.full((8, 10), other, np.float32)
    beside[2, 3] = value
    np.testing.assert_array_equal(overlay(GREY, alone)[2, 3], overlay(GREY, beside)[2, 3])


@settings(deadline=None, max_examples=30)
@given(value=st.floats(-1e6, 0.5, width=32))
def test_normal_pixels_show_the_image_unchanged(value: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    np.testing.assert_array_equal(overlay(image, np.full((8, 10), value, np.float32)), image)


def test_the_scale_ends_at_two() -> None:
    at_end = overlay(GREY, np.full((8, 10), 2.0, np.float32))
    np.testing.assert_array_equal(at_end, overlay(GREY, np.full((8, 10), 400.0, np.float32)))
    np.testing.assert_array_equal(at_end, overlay(GREY, np.full((8, 10), np.inf, np.float32)))
    assert not np.array_equal(at_end, overlay(GREY, np.full((8, 10), 1.9, np.float32)))


def test_pixels_without_a_score_stay_transparent() -> None:
    np.testing.assert_array_equal(overlay(GREY, np.full((8, 10), np.nan, np.float32)), GREY)


def test_colors_darken_steadily_above_the_threshold() -> None:
    white = np.full((1, 21, 3), 255, np.uint8)
    row = overlay(white, np.linspace(0.5, 2.0, 21, dtype=np.float32)[None])[0]
    brightness = [luminance(color) for color in row]
    assert all(later < earlier for earlier, later in pairwise(brightness))


def test_sixteen_bits_look_like_eight() -> None:
    relative = np.linspace(0, 2, 80, dtype=np.float32).reshape(8, 10)
    deep = np.full((8, 10, 3), (120 << 8) + 77, np.uint16)
    np.testing.assert_array_equal(overlay(deep, relative), overlay(GREY, relative))


def test_the_mask_is_outlined_and_its_inside_left_alone() -> None:
    image = np.full((60, 60, 3), 120, np.uint8)
    mask = np.zeros((60, 60), np.bool_)
    mask[20:40, 10:50] = True
    painted = overlay(image, np.zeros((60, 60), np.float32), defect_mask=mask)
    np.testing.assert_array_equal(painted[17, 10:50], np.full((40, 3), 255))
    assert (painted[mask] == 120).all()
    np.testing.assert_array_equal(painted[5, 5], [120, 120, 120])
    assert (image == 120).all(), "the caller's image must not change"


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"The map must have the image's size \(8, 10\), got \(10, 8\)"):
        overlay(GREY, np.zeros((10, 8), np.float32))
    with pytest.raises(ValueError, match=r"The mask must have the image's size \(8, 10\), got \(1, 1\)"):
        overlay(GREY, np.zeros((8, 10), np.float32), defect_mask=np.ones((1, 1), np.bool_))


def test_the_color_bar_is_the_overlays_scale() -> None:
    bar = colour_bar(101, 5)
    assert bar.shape == (5, 101, 3)
    grey = np.full((1, 1, 3), 150, np.uint8)
    for place in (0, 40, 50, 75, 100):
        expected = overlay(grey, np.full((1, 1), place / 50, np.float32))[0, 0]
        np.testing.assert_array_equal(bar[2, place], expected)
