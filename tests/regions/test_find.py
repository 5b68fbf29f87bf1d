"""Regions: hysteresis and joining against a flood fill, one pixel at a time."""

import time
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from blemish.regions import Region, find_regions, highest_pixel
from blemish.types import Image, Map

Place = tuple[int, int]


def grey(anomaly_map: Map) -> Image:
    return np.zeros((*anomaly_map.shape, 3), np.uint8)


def parts_by_hand(anomaly_map: Map, seed: float, grow: float) -> list[list[Place]]:
    """The pixels of each region, sorted, the highest peak first."""
    left = {(int(y), int(x)) for y, x in np.argwhere(anomaly_map > grow)}
    parts = []
    while left:
        pixels, todo = [], deque([left.pop()])
        while todo:
            y, x = todo.popleft()
            pixels.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            todo.extend(near)
        if max(anomaly_map[place] for place in pixels) > seed:
            parts.append(sorted(pixels))
    return sorted(parts, key=lambda part: (-anomaly_map[peak(anomaly_map, part)], peak(anomaly_map, part)))


def peak(anomaly_map: Map, part: list[Place]) -> Place:
    return max(part, key=lambda place: anomaly_map[place])  # the first of equal ones


def pixels_of(region: Region) -> list[Place]:
    return [(y, x + step) for y, x, count in region.runs.tolist() for step in range(count)]


maps = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.one_of(st.integers(-2, 3), st.floats(-1e6, 1e6, width=32)),
)


@settings(deadline=None, max_examples=200)
@given(maps, st.sampled_from([-1.0, 0.0, 1.5, 1e7]), st.sampled_from([0.0, 1.0, 3.0]))
def test_regions_equal_a_flood_fill(anomaly_map: Map, seed: float, below: float) -> None:
    mask, regions = find_regions(anomaly_map, grey(anomaly_map), seed, seed - below)
    expected = parts_by_hand(anomaly_map, seed, seed - below)
    assert [pixels_of(region) for region in regions] == expected
    assert {(int(y), int(x)) for y, x in np.argwhere(mask)} == {place for part in expected for place in part}
    for region, part in zip(regions, expected, strict=True):
        ys, xs = [y for y, _ in part], [x for _, x in part]
        assert (region.x, region.y) == (min(xs), min(ys))
        assert (region.width, region.height) == (max(xs) - min(xs) + 1, max(ys) - min(ys) + 1)
        assert (region.peak_y, region.peak_x) == peak(anomaly_map, part)
        assert region.peak == anomaly_map[peak(anomaly_map, part)]
        assert region.area == len(part)
        assert (region.centre_x, region.centre_y) == pytest.approx((np.mean(xs), np.mean(ys)))
        total = sum(float(anomaly_map[place]) - (seed - below) for place in part)
        assert region.mass == pytest.approx(total, rel=1e-6, abs=1e-6)
        height, width = anomaly_map.shape
        assert region.edge_distance == min(min(xs), min(ys), width - 1 - max(xs), height - 1 - max(ys))


@settings(deadline=None, max_examples=100)
@given(maps, st.floats(-2, 3), st.floats(0, 2))
def test_a_higher_map_has_regions_that_contain_the_former_ones(
    anomaly_map: Map, seed: float, more: float
) -> None:
    raised = anomaly_map.copy()
    raised[0, 0] += more
    before = find_regions(anomaly_map, grey(anomaly_map), seed, seed - 1)[0]
    after = find_regions(raised, grey(anomaly_map), seed, seed - 1)[0]
    assert (after | ~before).all()


@pytest.mark.parametrize(("gap", "count"), [(0, 3), (2, 3), (3, 2), (4, 2), (6, 1)])
def test_regions_closer_than_the_gap_are_one(gap: int, count: int) -> None:
    """Three dots with 3 and 6 pixels between them, in a row, in a column and over a corner."""
    for across, down in ((1, 0), (0, 1)):
        anomaly_map = np.zeros((30, 30), np.float32)
        for place, value in ((5, 1.0), (9, 2.0), (16, 3.0)):
            anomaly_map[5 + down * place, 5 + across * place] = value
        mask, regions = find_regions(anomaly_map, grey(anomaly_map), 0.5, 0.5, gap)
        assert len(regions) == count
        assert mask.sum() == sum(region.area for region in regions) == 3
        assert regions[0].peak == 3


def test_what_is_below_the_seed_joins_no_regions() -> None:
    anomaly_map = np.array([[9, 0, 0, 2, 0, 0, 9]], np.float32)
    assert len(find_regions(anomaly_map, grey(anomaly_map), 5, 1, 2)[1]) == 2


def test_a_view_into_a_larger_map_works() -> None:
    whole = np.arange(48, dtype=np.float32).reshape(6, 8) % 5
    view = whole[1:5, ::2]
    found = find_regions(view, grey(view), 2, 2)[1]
    assert [pixels_of(region) for region in found] == parts_by_hand(view, 2, 2)


def test_nothing_above_the_threshold() -> None:
    flat = np.ones((3, 4), dtype=np.float32)
    mask, regions = find_regions(flat, grey(flat), 1.0, 0.5)
    assert not mask.any()
    assert regions == ()


def test_a_value_at_the_threshold_is_not_defective() -> None:
    anomaly_map = np.array([[1.0, 1.5]], dtype=np.float32)
    mask, (region,) = find_regions(anomaly_map, grey(anomaly_map), 1.0, 1.0)
    assert mask.tolist() == [[False, True]]
    assert region == highest_pixel(anomaly_map, grey(anomaly_map), 1.0)
    assert (region.area, region.length, region.mean_width, region.aspect) == (1, 1.0, 1.0, 1.0)


def test_ten_thousand_specks_are_fast() -> None:
    """A full-mask pass per region would take 10 s of processor time."""
    random = np.random.default_rng(0)
    anomaly_map = np.zeros((1000, 1000), dtype=np.float32)
    anomaly_map[::10, ::10] = random.uniform(1, 2, (100, 100))
    start = time.process_time()
    _, regions = find_regions(anomaly_map, grey(anomaly_map), 0.5, 0.5)
    assert time.process_time() - start < 5
    assert len(regions) == 10_000
    assert [region.peak for region in regions] == pytest.approx(
        np.sort(anomaly_map[::10, ::10].ravel())[::-1]
    )
