"""Local outlier factors per position, compared with scikit-learn's."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.neighbors import LocalOutlierFactor
from torch import Tensor

from blemish.blocks.memory import outlier_factor
from blemish.blocks.memory.outlier_factor import local_outlier_factors

EVERY = torch.ones(1, dtype=torch.bool)


def clouds(images: int, positions: int = 3, seed: int = 0) -> Tensor:
    """Points of a different spread and mean at each position, the first image far from the others."""
    points = torch.randn(images, positions, 8, generator=torch.Generator().manual_seed(seed))
    points[0] *= 5
    return points * torch.arange(1, positions + 1)[:, None] + 30 * torch.arange(positions)[:, None]


def reference(points: Tensor, neighbours: int) -> NDArray[np.float64]:
    lof = LocalOutlierFactor(n_neighbors=neighbours).fit(points.double().numpy())
    return np.asarray(-lof.negative_outlier_factor_)


@pytest.mark.parametrize("block_numbers", [2**22, 2 * 40 * 40])
def test_factors_at_each_position_are_scikit_learns(
    block_numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlier_factor, "BLOCK_NUMBERS", block_numbers)
    points = clouds(40)
    found = local_outlier_factors(points, EVERY.expand(40, 3), 6)
    expected = np.stack([reference(points[:, p], 6) for p in range(3)], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert bool((found.argmax(0) == 0).all())


def test_with_few_images_all_others_are_neighbours() -> None:
    points = clouds(4)
    found = local_outlier_factors(points, EVERY.expand(4, 3), 6)
    expected = np.stack([reference(points[:, p], 3) for p in range(3)], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_what_is_outside_the_image_is_nobodys_neighbour() -> None:
    points = clouds(20)
    inside = torch.ones(20, 3, dtype=torch.bool)
    inside[5:10, 1] = inside[:16, 2] = False
    points[5:10, 1] = points[0, 1]
    found = local_outlier_factors(points, inside, 6)
    for position, count in ((0, 6), (1, 6), (2, 3)):
        there = inside[:, position]
        expected = reference(points[there, position], count)
        np.testing.assert_allclose(found[there, position], expected, rtol=1e-3)
    assert bool((found[~inside] == 1).all())


def test_copies_are_not_infinitely_dense() -> None:
    points = clouds(20, positions=2)
    points[:, 1] = points[1, 1]
    points[19, 1] += 0.1
    found = local_outlier_factors(points, EVERY.expand(20, 2), 6)
    assert found[:19, 1].tolist() == pytest.approx([1.0] * 19)
    assert 1 < float(found[19, 1]) < 1000


def test_a_point_without_others_is_no_outlier() -> None:
    assert local_outlier_factors(clouds(1), EVERY.expand(1, 3), 6).tolist() == [[1.0] * 3]
    same = torch.ones(5, 2, 4)
    assert local_outlier_factors(same, EVERY.expand(5, 2), 6).tolist() == [[1.0] * 2] * 5
