import time
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from blemish.inspection.regions import find_regions
from blemish.inspection.result import Region
from blemish.types import Map


def regions_by_hand(anomaly_map: Map, threshold: float) -> list[Region]:
    """Flood fill, one pixel at a time."""
    left = {(int(y), int(x)) for y, x in np.argwhere(anomaly_map > threshold)}
    regions = []
    while left:
        pixels, todo = [], deque([left.pop()])
        while todo:
            y, x = todo.popleft()
            pixels.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            todo.extend(near)
        top, start = min(y for y, _ in pixels), min(x for _, x in pixels)
        peak_y, peak_x = max(sorted(pixels), key=lambda place: anomaly_map[place])
        regions.append(
            Region(
                x=start,
                y=top,
                width=max(x for _, x in pixels) - start + 1,
                height=max(y for y, _ in pixels) - top + 1,
                area=len(pixels),
                peak=float(anomaly_map[peak_y, peak_x]),
                peak_x=peak_x,
                peak_y=peak_y,
            )
        )
    return sorted(regions, key=lambda region: (-region.peak, region.peak_y, region.peak_x))


maps = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.one_of(st.integers(-2, 3), st.floats(-1e6, 1e6, width=32)),
)


@settings(deadline=None, max_examples=150)
@given(maps, st.sampled_from([-1.0, 0.0, 1.5, 1e7]))
def test_regions_equal_a_flood_fill(anomaly_map: Map, threshold: float) -> None:
    mask, regions = find_regions(anomaly_map, threshold)
    assert (mask == (anomaly_map > threshold)).all()
    assert list(regions) == regions_by_hand(anomaly_map, threshold)


@settings(deadline=None, max_examples=50)
@given(maps, st.integers(1, 20))
def test_regions_are_the_same_however_many_pixels_are_looked_at_together(
    anomaly_map: Map, pixels: int
) -> None:
    expected = find_regions(anomaly_map, 0.0)[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blemish.inspection.regions.PIXELS_AT_ONCE", pixels)
        assert find_regions(anomaly_map, 0.0)[1] == expected


def test_a_view_into_a_larger_map_works() -> None:
    whole = np.arange(48, dtype=np.float32).reshape(6, 8) % 5
    view = whole[1:5, ::2]
    assert list(find_regions(view, 2)[1]) == regions_by_hand(view, 2)


def test_nothing_above_the_threshold() -> None:
    mask, regions = find_regions(np.ones((3, 4), dtype=np.float32), 1.0)
    assert not mask.any()
    assert regions == ()


def test_a_value_at_the_threshold_is_not_defective() -> None:
    mask, regions = find_regions(np.array([[1.0, 1.5]], dtype=np.float32), 1.0)
    assert mask.tolist() == [[False, True]]
    assert regions == (Region(x=1, y=0, width=1, height=1, area=1, peak=1.5, peak_x=1, peak_y=0),)


def test_numbers_are_plain_python() -> None:
    """JSON must take them."""
    (region,) = find_regions(np.ones((2, 2), dtype=np.float32), 0)[1]
    values = [getattr(region, name) for name in Region.__slots__]
    assert [type(value) for value in values] == [int, int, int, int, int, float, int, int]


def test_ten_thousand_specks_are_fast() -> None:
    """A full-mask pass per region would take 10 s of processor time."""
    random = np.random.default_rng(0)
    anomaly_map = np.zeros((1000, 1000), dtype=np.float32)
    anomaly_map[::10, ::10] = random.uniform(1, 2, (100, 100))
    start = time.process_time()
    _, regions = find_regions(anomaly_map, 0.5)
    assert time.process_time() - start < 5
    assert len(regions) == 10_000
    assert [region.peak for region in regions] == pytest.approx(
        np.sort(anomaly_map[::10, ::10].ravel())[::-1]
    )
