"""Measures of regions against drawn shapes, whose area and length are known."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from blemish.regions import Region, find_regions
from blemish.types import Image, Mask

SIZE = (240, 320)


def measured(mask: Mask, image: Image | None = None) -> Region:
    pixels = np.zeros((*mask.shape, 3), np.uint8) if image is None else image
    (region,) = find_regions(mask.astype(np.float32), pixels, 0.5, 0.5)[1]
    return region


def drawn(length: float, width: float, angle: float, kind: str) -> Mask:
    """A shape about (160.3, 120.4), as the pixels whose centres are inside."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    dx, dy = x - 160.3, y - 120.4
    along = dx * math.cos(angle) + dy * math.sin(angle)
    across = dy * math.cos(angle) - dx * math.sin(angle)
    if kind == "ellipse":
        return np.asarray((2 * along / length) ** 2 + (2 * across / width) ** 2 <= 1)
    return np.asarray((np.abs(along) <= length / 2) & (np.abs(across) <= width / 2))


@settings(deadline=None, max_examples=150)
@given(st.floats(30, 180), st.floats(12, 60), st.floats(0.1, 1.47), st.sampled_from(["ellipse", "bar"]))
def test_drawn_shapes_have_their_area_and_length(
    length: float, width: float, angle: float, kind: str
) -> None:
    width = min(width, length)
    region = measured(drawn(length, width, angle, kind))
    diameter = length if kind == "ellipse" else math.hypot(length, width)
    assert region.area == drawn(length, width, angle, kind).sum()
    # of a sharp corner, pixel centres are up to a pixel away
    assert region.length == pytest.approx(diameter, abs=1 if kind == "ellipse" else 1.3)
    assert region.mean_width == region.area / region.length
    assert region.aspect == pytest.approx(region.length / region.mean_width)
    assert (region.centre_x, region.centre_y) == pytest.approx((160.3, 120.4), abs=0.8)


@pytest.mark.parametrize(("width", "height"), [(1, 40), (40, 1), (20, 20), (31, 7)])
def test_rectangles_of_whole_pixels(width: int, height: int) -> None:
    mask = np.zeros((60, 60), np.bool_)
    mask[5 : 5 + height, 9 : 9 + width] = True
    region = measured(mask)
    assert region.length == pytest.approx(math.hypot(width, height), abs=0.5)
    assert (region.area, region.width, region.height) == (width * height, width, height)


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.8, 1.2])
@pytest.mark.parametrize("kind", ["ellipse", "bar"])
@pytest.mark.parametrize(("length", "width"), [(120.0, 40.0), (60.0, 60.0), (170.0, 30.0)])
def test_the_area_of_larger_shapes_is_right_to_two_percent(
    length: float, width: float, angle: float, kind: str
) -> None:
    area = length * width * (math.pi / 4 if kind == "ellipse" else 1)
    assert measured(drawn(length, width, angle, kind)).area == pytest.approx(area, rel=0.02)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_length_is_the_largest_distance_of_two_pixels_and_one(
    places: list[tuple[int, int]],
) -> None:
    mask = np.zeros((8, 10), np.bool_)
    mask[tuple(zip(*places, strict=True))] = True
    (region,) = find_regions(mask.astype(np.float32), np.zeros((8, 10, 3), np.uint8), 0.5, 0.5, 20)[1]
    points: NDArray[np.int64] = np.argwhere(mask)
    expected = 1 + (pdist(points).max() if len(points) > 1 else 0)
    assert region.length == pytest.approx(expected, rel=3e-4)


@pytest.mark.parametrize("deep", [False, True])
def test_the_contrast_is_that_of_medians_inside_and_around(deep: bool) -> None:
    mask = np.zeros((40, 40), np.bool_)
    mask[10:20, 10:20] = True
    image = np.full((40, 40, 3), 200, np.uint8)
    image[:, 26:] = 0  # farther away than what is compared
    image[mask] = 149
    image[10, 10] = 0  # no median
    pixels = image.astype(np.uint16) * 257 if deep else image
    assert measured(mask, pixels).contrast == pytest.approx(51 / 255, abs=1e-6)


def test_a_region_that_fills_the_image_has_no_contrast() -> None:
    region = measured(np.ones((4, 5), np.bool_), np.full((4, 5, 3), 7, np.uint8))
    assert (region.contrast, region.area, region.edge_distance) == (0.0, 20, 0)


def test_two_regions_have_their_own_measures() -> None:
    anomaly_map = np.zeros((30, 60), np.float32)
    anomaly_map[5:10, 5:25] = 2
    anomaly_map[20:22, 40:43] = 3
    image = np.zeros((30, 60, 3), np.uint8)
    image[anomaly_map == 2] = 51
    image[anomaly_map == 3] = 102
    first, second = find_regions(anomaly_map, image, 1, 0.5)[1]
    assert (first.area, second.area, first.mass, second.mass) == (6, 100, 15.0, 150.0)
    assert (first.contrast, second.contrast) == pytest.approx((0.4, 0.2))
    assert (first.edge_distance, second.edge_distance) == (8, 5)
    assert second.runs.tolist() == [[y, 5, 20] for y in range(5, 10)]


def test_numbers_are_plain_python() -> None:
    """JSON must take them."""
    values = measured(np.ones((2, 2), np.bool_)).to_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["runs"] == [[0, 0, 2], [1, 0, 2]]
    assert [type(value) for name, value in values.items() if name in ("x", "area", "peak", "peak_x")] == [
        int,
        int,
        float,
        int,
    ]
