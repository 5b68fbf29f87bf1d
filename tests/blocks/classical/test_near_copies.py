"""Candidates against a brute-force search, the correlation of detail of moved images, groups against a closure."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from blemish.blocks.classical.near_copies import (
    FARTHER,
    connected,
    detail_correlation,
    detail_difference,
    nearest_pairs,
    threshold,
)

Floats = NDArray[np.float32]


def grain(seed: int, shapes: float = 3.0) -> Floats:
    """A surface (96, 128): shapes that all parts share, and the grain of one part."""
    common = ndimage.gaussian_filter(np.random.default_rng(99).normal(size=(96, 128)), 6)
    own = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(96, 128)), 1)
    return np.asarray(0.5 + 0.05 * (shapes * common / common.std() + own / own.std()), np.float32)


def test_candidates_are_the_nearest_and_others_one_farther_away() -> None:
    points = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    centred = points - points.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    candidates, others = set(), set()
    for row in range(30):
        order = [other for other in np.argsort(-unit @ unit[row]).tolist() if other != row]
        candidates |= {(min(row, other), max(row, other)) for other in order[:5]}
        last = order[FARTHER - 1]
        others.add((min(row, last), max(row, last)))
    assert nearest_pairs(points, 5) == (sorted(candidates), sorted(others))


def test_two_images_are_one_pair() -> None:
    assert nearest_pairs(np.eye(2, dtype=np.float32), 5) == ([(0, 1)], [(0, 1)])


@pytest.mark.parametrize(("shift", "degrees"), [((0, 0), 0), ((3, -2), 0), ((1, 2), 2)])
def test_detail_of_a_moved_image_correlates(shift: tuple[int, int], degrees: float) -> None:
    image = grain(0)
    turned = ndimage.rotate(image, degrees, reshape=False, order=3, mode="nearest")
    moved = ndimage.shift(turned, shift, order=1, mode="nearest") * np.float32(1.1)
    assert detail_correlation(image, moved) > 0.9
    assert np.abs(detail_difference(image, image)).max() < 1e-5


def test_detail_of_parts_of_the_same_shape_does_not_correlate() -> None:
    assert np.corrcoef(grain(0).ravel(), grain(1).ravel())[0, 1] > 0.8
    assert abs(detail_correlation(grain(0), grain(1))) < 0.1


def test_blank_images_do_not_correlate() -> None:
    blank = np.full((32, 32), 0.5, np.float32)
    assert detail_correlation(blank, blank) == 0


@pytest.mark.parametrize("size", [(64, 64), (181, 362)])
@pytest.mark.parametrize("levels", [(100, 110), (110, 110), (7, 255)])
def test_what_rounding_leaves_of_a_constant_image_is_no_detail(
    size: tuple[int, int], levels: tuple[int, int]
) -> None:
    first, second = (np.full(size, level / 255, np.float32) for level in levels)
    speck = first.copy()
    speck[size[0] // 2, size[1] // 2] += np.float32(1 / 255)
    assert detail_correlation(first, second) == detail_correlation(first, speck) == 0
    grain = (first + np.random.default_rng(0).integers(0, 2, size) / 255).astype(np.float32)
    assert detail_correlation(grain, grain) == pytest.approx(1, abs=1e-3)


def test_threshold_is_six_deviations_above_the_median_in_fishers_transform() -> None:
    z = [0.8, 1.0, 1.2, 1.0, 1.1]  # median 1, deviations 0.2 0 0.2 0 0.1, their median 0.1
    assert threshold(np.tanh(z)) == pytest.approx(np.tanh(1 + 6 * 0.14826))


def test_threshold_has_a_least_value_and_copies_among_the_others_hardly_move_it() -> None:
    assert threshold([0.01, 0.0, -0.01]) == 0.7
    others = np.random.default_rng(0).normal(0.3, 0.1, 80).tolist()
    assert threshold([*others, *[0.99] * 20]) < 0.9


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] != pair[1])))
def test_groups_are_connected_components(pairs: list[tuple[int, int]]) -> None:
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    places = np.array(rows, np.int64), np.array(columns, np.int64)
    graph = coo_array((np.ones(len(pairs)), places), shape=(10, 10))
    _, labels = connected_components(graph, directed=False)
    groups = [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]
    joined = {number for pair in pairs for number in pair}
    assert connected(pairs) == sorted(group for group in groups if group[0] in joined)


def test_a_chain_is_one_group_in_any_order() -> None:
    for pairs in itertools.permutations([(0, 1), (1, 2), (2, 3)]):
        assert connected(pairs) == [[0, 1, 2, 3]]
