"""Foreground by the first principal component, on painted scenes."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.blocks.principal_foreground import PrincipalForeground
from blemish.opencv import cv2

SHAPE = (20, 24)
EVERY = torch.ones(2, *SHAPE, dtype=torch.bool)


def disk(radius: float, y: float = 9.5, x: float = 11.5) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(SHAPE[0]), torch.arange(SHAPE[1]), indexing="ij")
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def painted(shapes: list[Tensor], sign: float = 1.0, seed: int = 0) -> Tensor:
    """Features (N, h, w, 6): two kinds of cells, and noise."""
    generator = torch.Generator().manual_seed(seed)
    kind = sign * torch.randn(6, generator=torch.Generator().manual_seed(1))
    shown = torch.stack(shapes)[..., None].float()
    return shown * kind + 0.02 * torch.randn(*shown.shape[:3], 6, generator=generator)


def expected(shape: Tensor) -> NDArray[np.bool_]:
    """Dilated, then closed, by OpenCV."""
    square = np.ones((3, 3), np.uint8)
    wide = cv2.dilate(shape.numpy().astype(np.uint8), square)
    return np.asarray(cv2.morphologyEx(wide, cv2.MORPH_CLOSE, square) > 0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("radius", [5.0, 8.5])
def test_the_product_in_the_centre_is_the_foreground(sign: float, radius: float) -> None:
    foreground = PrincipalForeground()
    foreground.learn(painted([disk(radius), disk(radius, y=8.5)], sign), EVERY)
    unseen = [disk(radius, x=12.5), disk(3.0, y=4, x=5)]
    found = foreground(painted(unseen, sign, seed=2), EVERY)
    for shape, shown in zip(unseen, found.numpy(), strict=True):
        assert np.array_equal(shown, expected(shape))


def test_gaps_of_a_cell_are_closed() -> None:
    foreground = PrincipalForeground()
    foreground.learn(painted([disk(7.0)] * 2), EVERY)
    ring = disk(7.0) & ~disk(2.2)
    found = foreground(painted([ring] * 2, seed=3), EVERY)[0]
    assert torch.equal(found, torch.from_numpy(expected(ring)))
    assert bool(found[disk(7.0)].all())


def test_only_what_is_inside_counts_and_all_of_it_where_nothing_is_shown() -> None:
    foreground = PrincipalForeground()
    inside = EVERY.clone()
    inside[:, :4] = False
    features = painted([disk(6.0)] * 2)
    features[:, :4] = 100.0  # would be the first component
    foreground.learn(features, inside)
    nothing = torch.zeros(SHAPE, dtype=torch.bool)
    found = foreground(painted([disk(6.0), nothing]), inside)
    assert np.array_equal(found[0].numpy(), expected(disk(6.0)) & inside[0].numpy())
    assert torch.equal(found[1], inside[1])


def test_the_rest_is_taken_where_the_component_is_that_of_a_small_part() -> None:
    part = disk(4.2)  # less than a third of the centre
    foreground = PrincipalForeground()
    foreground.learn(painted([part] * 2), EVERY)
    found = foreground(painted([part] * 2, seed=4), EVERY)[0].numpy()
    assert np.array_equal(found, expected(~part))
    assert found[:5].all()
