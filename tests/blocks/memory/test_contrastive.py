import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor

from blemish.blocks.memory.contrastive import (
    contextual_similarity,
    nearest,
    pairwise_similarity,
    relaxed_contrastive_loss,
    squared_distances,
)

TOY = torch.tensor([[0.0], [1.0], [3.0], [7.0], [12.0], [13.5]], dtype=torch.float64)
"""Six points on a line."""


def points_of(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def neighbours_by_hand(squared: NDArray[np.float64], i: int, k: int) -> set[int]:
    """The point itself and the k − 1 others nearest to it."""
    others = sorted((j for j in range(len(squared)) if j != i), key=lambda j: squared[i, j])
    return {i, *others[: k - 1]}


def contextual_by_hand(squared: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """The formulas, one number at a time."""
    count = len(squared)
    near = [neighbours_by_hand(squared, i, k) for i in range(count)]
    half = [neighbours_by_hand(squared, i, max(k // 2, 1)) for i in range(count)]
    shared = np.zeros((count, count))
    for i in range(count):
        for j in near[i]:
            shared[i, j] = len(near[i] & near[j]) / len(near[i])
    expanded = np.zeros((count, count))
    for i in range(count):
        reciprocal = [n for n in half[i] if i in half[n]]
        for j in range(count):
            expanded[i, j] = sum(shared[n, j] for n in reciprocal) / len(reciprocal)
    return (expanded + expanded.T) / 2


def test_six_points_on_a_line_by_hand() -> None:
    """k = 3, so each point's ⌊3/2⌋ = 1 nearest is itself and nothing is expanded.

    N(0) = {0,1,2}, N(1) = {1,0,2}, N(2) = {2,1,0}, N(3) = {3,2,4}, N(4) = {4,5,3}, N(5) = {5,4,3}.
    Asymmetric before: 3 has 2 among its neighbours and shares {2} with it, but 2 does not have 3.
    """
    third = 1 / 3
    one_sided = torch.tensor(
        [
            [1, 1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [0, 0, third, 1, 2 * third, 0],
            [0, 0, 0, 2 * third, 1, 1],
            [0, 0, 0, 2 * third, 1, 1],
        ],
        dtype=torch.float64,
    )
    assert not torch.equal(one_sided, one_sided.T)
    found = contextual_similarity(squared_distances(TOY), 3)
    assert torch.allclose(found, (one_sided + one_sided.T) / 2)


def test_reciprocal_neighbours_expand_the_row() -> None:
    """k = 4: the two nearest of 4 and of 5 are each other, so both rows become their mean."""
    squared = squared_distances(TOY)
    expected = contextual_by_hand(squared.numpy(), 4)
    found = contextual_similarity(squared, 4).numpy()
    assert np.allclose(found, expected)
    assert found[4, 5] == pytest.approx(1.0)


def test_a_point_is_its_own_nearest_neighbour_even_among_copies() -> None:
    squared = squared_distances(torch.zeros(6, 2))
    assert nearest(squared, 3)[:, 0].tolist() == list(range(6))
    assert torch.equal(contextual_similarity(squared, 1), torch.eye(6))


def test_more_neighbours_than_points_are_all_points() -> None:
    assert torch.equal(
        contextual_similarity(squared_distances(TOY), 12), torch.ones(6, 6, dtype=torch.float64)
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 12), st.integers(1, 9), st.integers(0, 999))
def test_contextual_similarity_equals_the_loops(count: int, k: int, seed: int) -> None:
    squared = squared_distances(points_of(count, 3, seed))
    found = contextual_similarity(squared, k)
    assert np.allclose(found.numpy(), contextual_by_hand(squared.numpy(), k))
    assert torch.equal(found, found.T)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_distances_equal_scipy_and_are_zero_on_the_diagonal() -> None:
    points = points_of(20, 5, 0) + 100
    found = squared_distances(points)
    assert np.allclose(found, cdist(points, points, "sqeuclidean"))
    assert torch.equal(found.diagonal(), torch.zeros(20, dtype=torch.float64))


def test_pairwise_similarity_is_e_to_the_minus_one_at_the_bandwidth() -> None:
    assert pairwise_similarity(torch.tensor([0.0, 2.5]), 2.5).tolist() == pytest.approx([1.0, math.exp(-1)])


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 8), st.floats(0.1, 2.0), st.integers(0, 999))
def test_loss_equals_the_loops(count: int, margin: float, seed: int) -> None:
    points = points_of(count, 3, seed)
    similarity = torch.rand(count, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    distances = cdist(points, points)
    total = 0.0
    for i in range(count):
        mean = sum(distances[i]) / count
        for j in range(count):
            relative = distances[i, j] / mean
            w = float(similarity[i, j])
            total += w * relative**2 + (1 - w) * max(0.0, margin - relative) ** 2
    assert float(relaxed_contrastive_loss(points, similarity, margin)) == pytest.approx(total / count**2)


def test_gradient_equals_finite_differences() -> None:
    points = points_of(7, 3, 1).requires_grad_()
    similarity = torch.rand(7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda p: relaxed_contrastive_loss(p, similarity, 1.0), (points,), rtol=1e-3, atol=1e-8
    )


def test_no_gradient_goes_to_the_similarity() -> None:
    similarity = torch.full((4, 4), 0.5, dtype=torch.float64, requires_grad=True)
    points = points_of(4, 2, 0).requires_grad_()
    relaxed_contrastive_loss(points, similarity, 1.0).backward()
    assert similarity.grad is None
    assert points.grad is not None


def test_shrinking_everything_does_not_change_the_loss() -> None:
    points, similarity = points_of(6, 3, 2), torch.full((6, 6), 0.3, dtype=torch.float64)
    whole = float(relaxed_contrastive_loss(points, similarity, 1.0))
    assert float(relaxed_contrastive_loss(points / 100, similarity, 1.0)) == pytest.approx(whole)


def test_equal_points_have_a_finite_gradient() -> None:
    points = torch.ones(4, 3, requires_grad=True)
    relaxed_contrastive_loss(points, torch.ones(4, 4), 1.0).backward()
    assert points.grad is not None
    assert torch.isfinite(points.grad).all()
