"""Millimetres from pixels: a pitch, known points, a checkerboard; against a drawn plane under perspective."""

import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from blemish.camera.scale import Scale
from blemish.errors import DataError
from blemish.types import Image

VIEW = np.array([[0.05, 0.004, -3.0], [-0.003, 0.06, 2.0], [2e-5, 4e-5, 1.0]])
"""From pixels to millimetres: a slanted view."""


def seen(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places in mm of pixels, by `VIEW`."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ VIEW.T
    return np.asarray(mapped[:, :2] / mapped[:, 2:])


def known(pixels: list[tuple[float, float]], noise: float = 0.0) -> Scale:
    places = seen(np.array(pixels)) + noise * np.random.default_rng(0).standard_normal((len(pixels), 2))
    rows = np.column_stack([np.array(pixels), places]).tolist()
    return Scale(points=tuple((a, b, c, d) for a, b, c, d in rows))


CORNERS = [(0.0, 0.0), (1599.0, 0.0), (1599.0, 1199.0), (0.0, 1199.0)]


@given(st.floats(1e-3, 10), st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)))
def test_a_pitch_is_the_same_everywhere(pitch: float, point: tuple[float, float]) -> None:
    scale = Scale(mm_per_pixel=pitch)
    assert scale.to_mm([point])[0] == pytest.approx([pitch * point[0], pitch * point[1]])
    assert scale.area_per_pixel([point])[0] == pytest.approx(pitch**2)


def test_four_points_give_the_view_back() -> None:
    places = np.array([(100.0, 300.0), (801.5, 77.25), (1500.0, 1100.0)])
    np.testing.assert_allclose(known(CORNERS).to_mm(places), seen(places), rtol=1e-6)


def test_the_area_of_a_pixel_is_that_of_its_quadrangle() -> None:
    scale = known(CORNERS)
    for x, y in ((50.0, 60.0), (1500.0, 1100.0)):
        corners = scale.to_mm(
            [(x + dx, y + dy) for dx, dy in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))]
        )
        area = cv2.contourArea(corners.astype(np.float32))
        assert scale.area_per_pixel([(x, y)])[0] == pytest.approx(area, rel=1e-3)


def test_the_residual_of_the_points_adds_to_the_uncertainty() -> None:
    pixels = [(float(x), float(y)) for x in range(0, 1600, 200) for y in range(0, 1200, 200)]
    assert known(pixels).border_px == pytest.approx(0.5, abs=1e-3)
    noisy = known(pixels, noise=0.1)  # a pixel has about 0.055 mm: the error of each axis is 1.8 pixels
    assert 1.5 < noisy.border_px < 2.3
    assert Scale(mm_per_pixel=1.0, edge_px=0.25).border_px == 0.25


def checkerboard(
    columns: int, rows: int, square: int, view: NDArray[np.float64], size: tuple[int, int]
) -> Image:
    """A board whose first inner corner is at (0, 0) mm, seen so that `view` maps pixels to mm (1 mm a square)."""
    y, x = np.mgrid[: size[0] * 4, : size[1] * 4] / 4 - 0.375  # four samples per pixel and axis
    mapped = np.stack([x, y, np.ones_like(x)], -1) @ view.T
    u, v = mapped[..., 0] / mapped[..., 2] / square, mapped[..., 1] / mapped[..., 2] / square
    inside = (u >= -1) & (u < columns) & (v >= -1) & (v < rows)
    dark = inside & ((np.floor(u) + np.floor(v)) % 2 == 0)
    grey = cv2.resize(np.where(dark, 30, 220).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return np.repeat(np.rint(grey)[:, :, None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("deep", [False, True])
def test_a_checkerboard_gives_lengths_to_half_a_pixel(deep: bool) -> None:
    view = np.array([[0.05, 0.002, -6.0], [-0.001, 0.052, -5.0], [2e-5, 3e-5, 1.0]])
    image = checkerboard(9, 6, 2, view, (480, 640))
    scale = Scale.from_checkerboard(image.astype(np.uint16) * 257 if deep else image, (9, 6), 2.0)
    pixels = np.array([(130.0, 110.0), (400.0, 330.0)])
    mapped = np.column_stack([pixels, np.ones(2)]) @ view.T
    expected = math.dist(*(mapped[:, :2] / mapped[:, 2:]))
    assert math.dist(*scale.to_mm(pixels)) == pytest.approx(expected, abs=0.5 * 0.05)
    assert scale.border_px < 0.6
    assert Scale.from_json(scale.model_dump_json()) == scale


def test_an_image_without_a_board_is_refused() -> None:
    with pytest.raises(DataError, match=r"no checkerboard with 9 × 6 inner corners .* Count the corners"):
        Scale.from_checkerboard(np.full((200, 300, 3), 90, np.uint8), (9, 6), 2.0)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "needs either mm_per_pixel or points"),
        ({"mm_per_pixel": 1.0, "points": ((0, 0, 0, 0),)}, "needs either mm_per_pixel or points"),
        ({"mm_per_pixel": 0.0}, "mm_per_pixel must be a number above 0, got 0.0"),
        (
            {"points": ((0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 1.0, 0.0), (0.0, 1.0, 0.0, 1.0))},
            "must be at least four",
        ),
        ({"points": tuple((float(i), 2.0 * i, float(i), 1.0 * i * i) for i in range(5))}, "lie on no line"),
        (
            {"points": tuple((float(i), 1.0 * (i == 2), float(i), 1.0 * (i == 2)) for i in range(4))},
            "lie on no line",
        ),
        (
            {
                "points": (
                    (0.0, 0.0, 0.0, 0.0),
                    (1.0, 0.0, 1.0, 1.0),
                    (1.0, 1.0, 1.0, 0.0),
                    (0.0, 1.0, 0.0, 1.0),
                )
            },
            "no view of a plane shows them so",
        ),
        ({"mm_per_pixel": 1.0, "uncertainty": 1.0}, "uncertainty must be a number from 0 to below 1"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Scale(**values)


def test_an_image_that_would_show_the_horizon_is_refused() -> None:
    scale = known([(0.0, 0.0), (400.0, 0.0), (400.0, 300.0), (0.0, 300.0)])
    scale.require_plane((1200, 1600))
    steep = Scale(
        points=(
            (0.0, 300.0, 0.0, 0.0),
            (640.0, 300.0, 10.0, 0.0),
            (240.0, 100.0, 0.0, 40.0),
            (400.0, 100.0, 10.0, 40.0),
        )
    )
    with pytest.raises(DataError, match="would show the horizon of the part's plane"):
        steep.require_plane((480, 640))
    Scale(mm_per_pixel=1.0).require_plane((480, 640))
