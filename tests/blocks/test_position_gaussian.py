import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis
from torch import Tensor

from blemish.blocks.position_gaussian import PositionGaussian
from blemish.errors import MethodError

ALL = torch.ones(1, 1, 1, dtype=torch.bool)


def features(count: int, d: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator)
    return (
        torch.einsum("ij,njhw->nihw", mixing, torch.randn(count, d, height, width, generator=generator)) + 5
    )


def fitted(batches: list[Tensor], ridge: float) -> PositionGaussian:
    field = PositionGaussian()
    for batch in batches:
        field.update(batch, ALL.expand(len(batch), *batch.shape[2:]))
    field.finish(ridge)
    return field


def test_distance_equals_scipy_at_every_position() -> None:
    data = features(40, 6, 4, 5)
    field = fitted([data[:13], data[13:]], ridge=0.01)
    query = features(3, 6, 4, 5, seed=1)
    found = field.distance(query).numpy()
    covariances = [[np.cov(data[:, :, y, x].double().numpy().T) for x in range(5)] for y in range(4)]
    ridge = 0.01 * np.mean([np.diag(c) for row in covariances for c in row])
    for n, y, x in np.ndindex(3, 4, 5):
        inverse = np.linalg.inv(covariances[y][x] + ridge * np.eye(6))
        expected = mahalanobis(query[n, :, y, x].double(), data[:, :, y, x].double().mean(0), inverse)
        assert found[n, y, x] == pytest.approx(expected, rel=1e-3)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 12), st.integers(1, 8), st.integers(0, 2**31))
def test_batching_does_not_matter(count: int, d: int, seed: int) -> None:
    data = features(count, d, 3, 2, seed)
    whole = fitted([data], 0.1)
    single = fitted(list(data.split(1)), 0.1)
    assert torch.allclose(whole.mean, single.mean, atol=1e-4, rtol=1e-4)
    assert torch.allclose(whole.distance(data), single.distance(data), rtol=2e-3, atol=1e-3)


def test_a_constant_added_to_all_data_changes_nothing() -> None:
    data = features(30, 5, 3, 3)
    moved = fitted([data + 100], 0.01).distance(data[:4] + 100)
    assert torch.allclose(fitted([data], 0.01).distance(data[:4]), moved, rtol=1e-2)


def test_fewer_images_than_dimensions_are_held_by_the_ridge() -> None:
    data = features(3, 20, 2, 2)
    assert torch.isfinite(fitted([data], 0.01).distance(features(2, 20, 2, 2, seed=4))).all()


def test_wide_features_are_factorised_with_two_threads() -> None:
    """A batched inverse of matrices this wide fails on some CPUs; the triangular way does not."""
    data = features(8, 300, 2, 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        distance = fitted([data], 0.01).distance(data[:1])
    finally:
        torch.set_num_threads(threads)
    assert torch.isfinite(distance).all()


def test_positions_outside_the_image_do_not_count() -> None:
    data = features(10, 4, 2, 2)
    inside = torch.ones(10, 2, 2, dtype=torch.bool)
    inside[5:, 0, 0] = False
    spoiled = data.clone()
    spoiled[5:, :, 0, 0] = 1e3
    field = PositionGaussian()
    field.update(spoiled, inside)
    field.finish(0.01)
    assert torch.allclose(field.mean[:, 0, 0], data[:5, :, 0, 0].mean(0), rtol=1e-3, atol=1e-3)


def test_one_image_is_too_few() -> None:
    field = PositionGaussian()
    field.update(features(1, 3, 2, 2), ALL.expand(1, 2, 2))
    with pytest.raises(MethodError, match=r"needs at least 2 training images, got 1\. Add normal images\."):
        field.finish(0.01)


@pytest.mark.parametrize(
    ("data", "ridge", "error"),
    [
        (
            features(3, 20, 2, 2),
            1e-300,
            r"^A covariance of the training images cannot be inverted with a ridge of 1e-300\. Raise the ridge, or",
        ),
        (
            features(3, 20, 2, 2) * 1e30,
            0.01,
            r"^Features of the training images are NaN or too large to estimate their variance\. Use arguments",
        ),
        (torch.ones(3, 20, 2, 2), 0.01, r"^All training images give the same values at every position, so"),
    ],
)
def test_statistics_without_a_usable_covariance_are_refused(data: Tensor, ridge: float, error: str) -> None:
    with pytest.raises(MethodError, match=error):
        fitted([data], ridge)


def test_statistics_take_half_of_full_covariances() -> None:
    field = fitted([features(4, 32, 3, 3)], 0.01)
    assert field.whitening.shape == (32 * 33 // 2, 9)
