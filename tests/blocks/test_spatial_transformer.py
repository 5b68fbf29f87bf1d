"""Spatial transformers: identity at first, matrices of RegAD's kind, and warps that are undone by their inverses."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from blemish.blocks.spatial_transformer import SpatialTransformer, inverse, rotation_scale, warp

Size = tuple[int, int]


def smooth_maps(size: Size, count: int = 2) -> torch.Tensor:
    """Maps (count, 3, H, W) in [0, 1] without fine detail, as feature maps of images that are not noise."""
    noise = np.random.default_rng(0).random((count, 3, *size))
    blurred = ndimage.gaussian_filter(noise, (0, 0, 3, 3), mode="reflect")
    low, high = blurred.min(), blurred.max()
    return torch.from_numpy(((blurred - low) / (high - low)).astype(np.float32))


def matrices(*parameters: tuple[float, float, float]) -> torch.Tensor:
    return rotation_scale(*torch.tensor(parameters).unbind(1))


@pytest.mark.parametrize("size", [(56, 56), (40, 72)])
def test_the_inverse_warp_undoes_a_warp(size: Size) -> None:
    maps = smooth_maps(size)
    matrix = matrices((0.2, 1.1, 0.95), (-0.15, 0.9, 1.05))
    restored = warp(warp(maps, matrix), inverse(matrix))
    middle = np.s_[:, :, size[0] // 6 : -size[0] // 6, size[1] // 6 : -size[1] // 6]
    error = (restored - maps)[middle].square().mean()
    assert 10 * math.log10(1 / float(error)) > 30
    moved = (warp(maps, matrix) - maps)[middle].square().mean()
    assert 10 * math.log10(1 / float(moved)) < 25, "the warp must have moved something"


def test_the_inverse_is_that_of_linear_algebra() -> None:
    found = matrices((0.3, 1.5, 0.7), (-2.0, 0.6, 1.9), (math.pi / 2, 1.0, 1.0))
    assert torch.allclose(inverse(found), torch.linalg.inv(found), atol=1e-5)


def test_a_product_of_warps_is_one_warp_by_the_product_of_the_matrices() -> None:
    maps = smooth_maps((64, 64), 1)
    first, second = matrices((0.1, 1.0, 0.9)), matrices((-0.2, 0.95, 1.0))
    twice, once = warp(warp(maps, first), second), warp(maps, first @ second)
    assert (twice - once)[:, :, 12:-12, 12:-12].abs().max() < 0.05
    assert (twice - warp(maps, second @ second))[:, :, 12:-12, 12:-12].abs().max() > 0.1


@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
def test_quarter_turns_are_those_of_numpy(size: Size) -> None:
    maps = smooth_maps(size, 1)
    half = warp(maps, matrices((math.pi, 1.0, 1.0)))
    assert torch.allclose(half, maps.rot90(2, (2, 3)), atol=1e-5)
    if size[0] == size[1]:
        quarter = warp(maps, matrices((math.pi / 2, 1.0, 1.0)))
        assert torch.allclose(quarter, maps.rot90(1, (2, 3)), atol=1e-5)


def test_a_rotation_does_not_shear_a_map_that_is_not_square() -> None:
    """Compared with scipy, which works on pixels."""
    maps = smooth_maps((48, 80), 1)
    angle = 0.3
    found = warp(maps, matrices((angle, 1.0, 1.0)))[0, 0].numpy()
    cosine, sine = math.cos(angle), math.sin(angle)
    on_rows = np.array([[cosine, sine], [-sine, cosine]])  # for vectors (y, x)
    centre = np.array([23.5, 39.5])
    expected = ndimage.affine_transform(
        maps[0, 0].numpy(), on_rows, centre - on_rows @ centre, order=1, mode="reflect"
    )
    assert np.abs(found - expected).max() < 1e-4


def test_shifts_are_shares_of_half_the_size() -> None:
    maps = smooth_maps((20, 40), 1)
    shifted = warp(maps, torch.eye(2)[None], (0.1, -0.2))  # 2 columns to the right, 2 rows up
    assert torch.allclose(shifted[:, :, 2:, :-2], maps[:, :, :-2, 2:], atol=1e-5)


def test_the_transform_is_the_identity_at_first() -> None:
    network = SpatialTransformer(5, 16)
    network.init_identity()
    for size in ((16, 16), (9, 30)):
        features = torch.rand(3, 5, *size)
        found = network(features)
        assert torch.equal(found, torch.eye(2).expand(3, 2, 2))
        assert torch.allclose(warp(features, found), features, atol=1e-5)
    network(torch.rand(3, 5, 16, 16))[:, 0, 1].sum().backward()
    assert network.last.weight.grad is not None
    assert network.last.weight.grad.abs().max() > 0, "it can learn to turn"


def test_scales_are_limited_and_multiply_the_diagonal_only() -> None:
    found = matrices((0.5, 9.0, -3.0))[0]
    cosine, sine = math.cos(0.5), math.sin(0.5)
    assert torch.allclose(found, torch.tensor([[2 * cosine, -sine], [sine, 0.5 * cosine]]))
