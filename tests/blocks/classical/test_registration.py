import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from blemish.blocks.classical.registration import coverage, register, warp


def scene(height: int = 120, width: int = 160, seed: int = 0) -> Tensor:
    """Smooth structure (H, W) without symmetry."""
    noise = np.random.default_rng(seed).normal(size=(height, width))
    smooth = ndimage.gaussian_filter(noise, 5)
    return torch.from_numpy((smooth / smooth.std()).astype(np.float32))


def moved(picture: Tensor, degrees: float, y: float, x: float) -> tuple[Tensor, Tensor]:
    motion = torch.tensor([[math.radians(degrees), y, x]])
    return warp(picture[None, None], motion)[:, 0], motion


def test_warp_by_nothing_changes_nothing() -> None:
    picture = scene()
    torch.testing.assert_close(moved(picture, 0, 0, 0)[0][0], picture, atol=1e-4, rtol=0)


def test_warp_looks_up_the_pixel_at_the_shift() -> None:
    picture = scene()
    found = moved(picture, 0, 3, -2)[0][0]
    torch.testing.assert_close(found[:-3, 2:], picture[3:, :-2], atol=1e-4, rtol=0)


def test_warp_by_a_quarter_turn_is_a_transposition() -> None:
    picture = scene(40, 40)
    expected = np.rot90(picture.numpy()).copy()  # counter-clockwise: the top row comes from the right column
    np.testing.assert_allclose(moved(picture, 90, 0, 0)[0][0].numpy(), expected, atol=1e-3)


def test_coverage_is_false_where_the_edge_is_repeated() -> None:
    covered = coverage(torch.tensor([[0.0, 3.0, -2.0]]), 10, 12)[0]
    assert covered[:-3, 2:].all()
    assert not covered[-3:].any()
    assert not covered[:, :2].any()


@pytest.mark.parametrize(
    ("degrees", "y", "x"), [(0, 0, 0), (0, 9, -14), (0, 0.4, 0.3), (4, -5, 6), (-8.8, 3, 2), (10, 0, 0)]
)
def test_register_finds_the_motion(degrees: float, y: float, x: float) -> None:
    picture = scene()
    fixed, motion = moved(picture, degrees, y, x)
    found = register(1.3 * fixed - 0.2, picture[None], torch.ones_like(fixed), largest_angle=10)
    assert abs(float(found[0, 0] - motion[0, 0])) < math.radians(0.2)
    assert (found[0, 1:] - motion[0, 1:]).abs().max() < 0.25


def test_register_looks_only_at_visible_pixels() -> None:
    picture = scene()
    fixed, motion = moved(picture, 0, 6, 5)
    visible = torch.ones_like(fixed)
    visible[:, :, 100:] = 0
    fixed[:, :, 100:] = scene(seed=9)[:, 100:] * 5
    found = register(fixed, picture[None], visible, largest_angle=5)
    assert (found - motion).abs().max() < 0.25


def test_register_of_a_batch_is_that_of_each() -> None:
    picture = scene()
    fixed = torch.cat([moved(picture, 3, 2, 1)[0], moved(picture, 0, -8, 4)[0], scene(seed=4)[None]])
    moving, visible = picture.expand_as(fixed), torch.ones_like(fixed)
    alone = torch.cat([register(one[None], picture[None], visible[:1], 10) for one in fixed])
    torch.testing.assert_close(register(fixed, moving, visible, 10), alone, atol=1e-3, rtol=0)


@pytest.mark.parametrize("fixed", [torch.zeros(64, 64), scene(64, 64, seed=7)], ids=["blank", "unrelated"])
def test_register_keeps_the_identity_without_a_match(fixed: Tensor) -> None:
    found = register(fixed[None], scene(64, 64)[None], torch.ones(1, 64, 64), 10)
    assert torch.equal(found, torch.zeros(1, 3))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 64), (300, 3), (64, 64)])
@pytest.mark.parametrize("seen", [True, False])
def test_register_keeps_the_identity_of_images_too_thin_to_match_or_not_visible(
    height: int, width: int, seen: bool
) -> None:
    fixed, moving = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0))
    visible = torch.full(fixed.shape, seen)
    assert torch.equal(register(fixed, moving, visible, 10), torch.zeros(1, 3))


def test_register_keeps_the_identity_where_turning_changes_nothing() -> None:
    y, x = np.mgrid[:96, :96] - 47.5
    disc = torch.from_numpy((np.hypot(y, x) < 30).astype(np.float32))[None]
    noise = 0.02 * scene(96, 96, seed=3)
    assert torch.equal(register(disc + noise, disc, torch.ones_like(disc), 10), torch.zeros(1, 3))
