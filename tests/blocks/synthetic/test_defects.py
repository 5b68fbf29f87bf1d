import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label
from torch import Tensor

from blemish.blocks.synthetic.defects import (
    FAINTEST,
    LARGEST,
    OCTAVES,
    SMALLEST,
    TINTS,
    _areas,
    _cuts,
    _pieces,
    _stains,
    add_defects,
    add_noise,
)
from blemish.blocks.synthetic.procedural import perlin_noise


def of_seed(
    seed: int, count: int = 6, size: tuple[int, int] = (40, 56)
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures, textures, and what became of the pictures."""
    torch.manual_seed(seed)
    pictures, textures = torch.rand(count, 3, *size), torch.rand(5, 3, 32, 32)
    return pictures, textures, *add_defects(pictures, textures)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 7),
    size=st.tuples(st.integers(8, 70), st.integers(8, 70)),
)
def test_outside_the_mask_nothing_changes_and_no_mask_is_empty(
    seed: int, count: int, size: tuple[int, int]
) -> None:
    pictures, _, changed, masks = of_seed(seed, count, size)
    assert masks.shape == (count, 1, *size)
    assert masks.dtype == torch.bool
    assert masks.flatten(1).any(1).all()
    assert torch.equal(changed.masked_fill(masks, 0), pictures.masked_fill(masks, 0))
    assert (changed != pictures).any(1, keepdim=True)[masks].float().mean() > 0.95
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1


def test_values_below_zero_stay_between_those_of_pictures_and_textures() -> None:
    torch.manual_seed(0)
    changed, _ = add_defects(-torch.rand(8, 3, 32, 32), -torch.rand(4, 3, 32, 32))
    assert float(changed.max()) <= 0
    assert float(changed.min()) >= -1


def test_the_seed_decides_every_pixel() -> None:
    first, again, other = of_seed(3), of_seed(3), of_seed(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[3], other[3])


def test_areas_are_in_their_band() -> None:
    torch.manual_seed(0)
    size = (64, 64)
    stains, cuts = (masks(200, size).flatten(1).float().mean(1) for masks in (_stains, _cuts))
    usual = (LARGEST - SMALLEST) / math.log(LARGEST / SMALLEST)
    assert float(stains.mean()) == pytest.approx(usual, rel=0.15)
    assert SMALLEST * 0.9 < float(stains.min()) < 2 * SMALLEST
    assert float(stains.max()) < LARGEST * 1.01
    assert 0.2 * usual < float(cuts.mean()) < 0.6 * usual
    masks = torch.cat([add_defects(torch.rand(20, 3, *size), torch.rand(4, 3, *size))[1] for _ in range(10)])
    assert 0.02 < float(masks.float().mean()) < 0.045


def test_stains_are_as_large_as_drawn() -> None:
    torch.manual_seed(5)
    masks = _stains(4, (30, 40))
    torch.manual_seed(5)
    for _ in range(2):
        perlin_noise((15, 20), octaves=OCTAVES)  # one for each two stains
    assert masks.flatten(1).sum(1).tolist() == (_areas(4) * 1200).round().tolist()
    assert not (masks[0] & masks[2]).any()  # peaks and valleys


def test_cuts_are_rectangles_or_thin_scars_in_one_piece() -> None:
    torch.manual_seed(1)
    masks = _cuts(60, (128, 128))[:, 0]
    upright, thin = 0, 0
    for mask in masks:
        assert label(mask.numpy(), structure=torch.ones(3, 3).numpy())[1] == 1
        rows, columns = mask.nonzero().T
        box = int((rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1))
        if int(mask.sum()) == box:
            upright += 1
        else:
            points = mask.nonzero().double()
            spread = torch.linalg.eigvalsh(torch.cov(points.T))
            at_edge = bool((points == 0).any() or (points == 127).any())
            thin += 1
            assert at_edge or float(spread[1]) > 8 * float(spread[0])
    assert 20 <= upright <= 45
    assert upright + thin == 60


def test_stains_let_the_picture_through_as_opacity_says() -> None:
    """On a black picture a white texture leaves the opacity itself; a black cut is only tinted."""
    torch.manual_seed(0)
    changed, masks = add_defects(torch.zeros(200, 3, 16, 16), torch.ones(2, 3, 16, 16))
    values = torch.stack([picture[:, mask[0]].amax() for picture, mask in zip(changed, masks, strict=True)])
    for picture, mask, value in zip(changed, masks, values, strict=True):
        assert (picture[:, mask[0]] == value).all()
    assert TINTS[0] <= float(values.min()) < FAINTEST
    assert 0.97 < float(values.max()) <= 1
    expected = (FAINTEST + 1) / 4 + sum(TINTS) / 4  # half of each kind
    assert float(values.mean()) == pytest.approx(expected, abs=0.05)


def test_cuts_come_from_another_picture_as_often_as_not() -> None:
    torch.manual_seed(0)
    shades = torch.arange(1.0, 401)[:, None, None, None].expand(400, 3, 8, 8)
    changed, _ = add_defects(shades, torch.zeros(1, 3, 8, 8))  # black textures only darken
    brighter = (changed > shades).flatten(1).any(1).float().mean()
    # A cut, of another picture, that is brighter even when darkened by TINTS.
    assert float(brighter) == pytest.approx(0.5 * 0.5 * 0.5 * (1 - sum(TINTS) / 2), abs=0.05)


def test_pieces_are_whole_rows_and_columns_of_their_picture_wrapped_or_mirrored() -> None:
    torch.manual_seed(0)
    stock = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    which = torch.tensor([1, 0, 1, 1, 0])
    for piece, number in zip(_pieces(stock, which, (5, 3)), which.tolist(), strict=True):
        candidates = [
            stock[number][:, [(top + s * i) % 4 for i in range(5)]][
                :, :, [(left + t * j) % 6 for j in range(3)]
            ]
            for top in range(4)
            for left in range(6)
            for s in (1, -1)
            for t in (1, -1)
        ]
        assert any(torch.equal(piece, candidate) for candidate in candidates)


def test_shares_are_log_uniform() -> None:
    torch.manual_seed(0)
    areas = _areas(20_000)
    middle = math.sqrt(SMALLEST * LARGEST)
    assert float((areas < middle).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(areas.min()) >= SMALLEST
    assert float(areas.max()) <= LARGEST


def test_noise_of_pixels_has_the_deviation_asked_for_and_nothing_in_common_with_its_neighbours() -> None:
    torch.manual_seed(0)
    noise = add_noise(torch.full((4, 3, 64, 96), 5.0), 0.2, 1) - 5
    assert noise.shape == (4, 3, 64, 96)
    assert float(noise.std()) == pytest.approx(0.2, rel=0.02)
    assert abs(float(noise.mean())) < 0.005
    assert abs(float((noise[..., 1:] * noise[..., :-1]).mean())) < 0.001


def test_coarse_noise_is_interpolated_between_cells() -> None:
    """Between two drawn values it is a straight line, and its deviation two thirds of theirs on average."""
    torch.manual_seed(0)
    cell = 8
    noise = torch.cat([add_noise(torch.zeros(4, 3, 64, 80), 0.3, cell) for _ in range(20)])
    assert float(noise.std()) == pytest.approx(0.3 * 2 / 3, rel=0.05)
    bends = (noise[..., 2:] - 2 * noise[..., 1:-1] + noise[..., :-2]).abs() > 1e-5
    assert float(bends.float().mean()) == pytest.approx(2 / cell, abs=0.03)  # a bend lies between two pixels
    far = (noise[..., 2 * cell :] * noise[..., : -2 * cell]).mean() / noise.square().mean()
    near = (noise[..., 1:] * noise[..., :-1]).mean() / noise.square().mean()
    assert abs(float(far)) < 0.05
    assert float(near) > 0.9


@pytest.mark.parametrize("cell", [1, 2, 3, 7, 30])
def test_noise_covers_any_size(cell: int) -> None:
    torch.manual_seed(0)
    noise = add_noise(torch.zeros(1, 3, 17, 29), 1.0, cell)
    assert noise.shape == (1, 3, 17, 29)
    assert float(noise.std()) > 0.1


def test_without_deviation_nothing_changes() -> None:
    pictures = torch.rand(2, 3, 16, 16)
    assert torch.equal(add_noise(pictures, 0.0, 4), pictures)
