from collections import deque
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from blemish.metrics.overlap import area_under, aupro, cut, pro_curve, region_shares
from blemish.metrics.ranking import Curve
from blemish.types import Map, Mask


def regions_by_hand(mask: Mask) -> list[set[tuple[int, int]]]:
    """8-connected regions by flood fill."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    regions = []
    while left:
        region, todo = set(), deque([left.pop()])
        while todo:
            y, x = todo.popleft()
            region.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            todo.extend(near)
        regions.append(region)
    return regions


def aupro_by_hand(masks: list[Mask], maps: list[Map], limit: float) -> float:
    """Every threshold in turn, every region in turn, then the area below straight lines up to the limit."""
    regions = [(index, region) for index, mask in enumerate(masks) for region in regions_by_hand(mask)]
    normal = sum(int((~mask).sum()) for mask in masks)
    points = [(0.0, 0.0)]
    for threshold in sorted({float(v) for m in maps for v in m.ravel()}, reverse=True):
        false = sum(int(((m >= threshold) & ~mask).sum()) for m, mask in zip(maps, masks, strict=True))
        shares = [sum(maps[i][place] >= threshold for place in r) / len(r) for i, r in regions]
        points.append((false / normal, float(np.mean(shares))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
        if x1 == limit and x1 != x0:
            break
    return area / limit


image = st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.bool_, shape),
        arrays.arrays(np.float32, shape, elements=st.one_of(st.integers(-3, 3), st.floats(-9, 9, width=32))),
    )
)


@settings(deadline=None, max_examples=60)
@given(st.lists(image, min_size=1, max_size=3), st.sampled_from([0.05, 0.3, 1.0]))
def test_aupro_equals_brute_force_over_all_thresholds(pairs: list[tuple[Mask, Map]], limit: float) -> None:
    masks, maps = [mask for mask, _ in pairs], [anomaly_map for _, anomaly_map in pairs]
    assume(any(mask.any() for mask in masks))
    assume(any((~mask).any() for mask in masks))
    assert aupro(masks, maps, limit) == pytest.approx(aupro_by_hand(masks, maps, limit), abs=1e-9)


def test_every_region_weighs_the_same() -> None:
    """One region of 1 pixel is found, one of 9 is not: half, not a tenth."""
    mask = np.zeros((10, 10), dtype=np.bool_)
    mask[0, 0] = True
    mask[5:8, 5:8] = True
    anomaly_map = np.zeros((10, 10), dtype=np.float32)
    anomaly_map[0, 0] = 5
    anomaly_map[5:8, 5:8] = -1
    assert aupro([mask], [anomaly_map]) == pytest.approx(0.5 + 0.0)


def test_a_long_winding_region_is_one_region() -> None:
    mask = np.zeros((101, 101), dtype=np.bool_)
    mask[::4] = True
    mask[2::8, -1] = mask[1::8, -1] = mask[3::8, -1] = True
    mask[6::8, 0] = mask[5::8, 0] = mask[7::8, 0] = True
    assert len(regions_by_hand(mask)) == 1
    assert region_shares(mask) == pytest.approx(np.full(mask.sum(), 1 / mask.sum()))


def test_diagonal_neighbours_are_one_region() -> None:
    assert region_shares(np.eye(3, dtype=np.bool_)).tolist() == [1 / 3] * 3


def test_a_perfect_map_has_one_and_a_constant_one_the_chance_level() -> None:
    mask = np.zeros((20, 20), dtype=np.bool_)
    mask[3:9, 4:7] = True
    assert aupro([mask], [mask.astype(np.float32)]) == pytest.approx(1.0)
    assert aupro([mask], [np.zeros((20, 20), dtype=np.float32)]) == pytest.approx(0.15)


def test_the_curve_is_cut_on_the_straight_line() -> None:
    curve = Curve(np.array([0.0, 0.2, 0.4, 1.0]), np.array([0.0, 0.5, 0.9, 1.0]))
    part = cut(curve, 0.3)
    assert part.x == pytest.approx([0, 0.2, 0.3])
    assert part.y == pytest.approx([0, 0.5, 0.7])
    assert area_under(curve, 0.3) == pytest.approx((0.05 + 0.06) / 0.3)
    assert cut(curve, 0.4).x == pytest.approx([0, 0.2, 0.4])
    with pytest.raises(ValueError, match=r"limit must be in \(0, 1\], got 0"):
        cut(curve, 0)


def test_the_curve_needs_defective_and_normal_pixels() -> None:
    anomaly_map = np.zeros((2, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="no pixel is defective"):
        pro_curve([np.zeros((2, 2), dtype=np.bool_)], [anomaly_map])
    with pytest.raises(ValueError, match="no pixel is normal"):
        pro_curve([np.ones((2, 2), dtype=np.bool_)], [anomaly_map])
    with pytest.raises(ValueError, match="at least one image"):
        pro_curve([], [])


def test_maps_are_checked() -> None:
    mask = np.eye(2, dtype=np.bool_)
    with pytest.raises(ValueError, match=r"Mask \(2, 2\) and anomaly map \(3, 2\) must have the same size"):
        aupro([mask], [np.zeros((3, 2), dtype=np.float32)])
    with pytest.raises(ValueError, match="finite"):
        aupro([mask], [np.full((2, 2), np.nan, dtype=np.float32)])
