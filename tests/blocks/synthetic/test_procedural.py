from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from blemish.blocks.synthetic.procedural import (
    cells,
    clouds,
    leaves,
    perlin_noise,
    procedural_images,
    stripes,
)

KINDS = (clouds, cells, stripes, leaves)
SIZE = (48, 70)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_of_the_size_in_range_and_not_plain(kind: Callable[..., Tensor]) -> None:
    spreads = []
    for seed in range(8):
        picture = kind(SIZE, seeded(seed))
        assert picture.shape == (3, *SIZE)
        assert picture.dtype == torch.float32
        assert float(picture.min()) >= 0
        assert float(picture.max()) <= 1
        spreads.append(float(picture.std()))
    assert sorted(spreads)[4] > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_every_pixel(kind: Callable[..., Tensor]) -> None:
    assert torch.equal(kind(SIZE, seeded(3)), kind(SIZE, seeded(3)))
    assert not torch.equal(kind(SIZE, seeded(3)), kind(SIZE, seeded(4)))


def test_without_a_generator_torchs_own_is_drawn_from() -> None:
    torch.manual_seed(1)
    first = procedural_images(5, SIZE)
    torch.manual_seed(1)
    assert torch.equal(procedural_images(5, SIZE), first)
    assert first.shape == (5, 3, *SIZE)
    assert not torch.equal(first[0], first[4])  # of the same kind


def test_noise_is_smooth_without_octaves_and_zero_on_the_lattice_in_the_mean() -> None:
    noise = torch.stack([perlin_noise((64, 64), seeded(seed), octaves=1) for seed in range(20)])
    steps = (noise[:, 1:] - noise[:, :-1]).abs().max()
    assert float(steps) < 0.2 * float(noise.abs().max())
    assert abs(float(noise.mean())) < 0.05
    assert float(noise.abs().max()) <= 0.5 * 2**0.5


def test_more_octaves_add_detail() -> None:
    def roughness(octaves: int) -> float:
        noise = perlin_noise((64, 64), seeded(0), octaves)
        return float((noise[1:] - noise[:-1]).square().mean() / noise.square().mean())

    assert roughness(5) > 2 * roughness(1)


def test_cells_have_the_colour_of_their_nearest_site() -> None:
    """Without its dark borders a Voronoi diagram has no more colours than sites."""
    picture = cells((32, 32), seeded(0))
    brightest = (picture / picture.amax(0, keepdim=True).clamp_min(1e-6)).round(decimals=3)
    assert len(brightest.flatten(1).unique(dim=1).T) <= 60
