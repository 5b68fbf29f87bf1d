import pytest
import torch
from torch import Tensor

from blemish.blocks.gan.latent_search import RATE, descend, search

TARGETS = torch.tensor([[0.3, -0.2], [1.0, 0.5], [-0.7, 0.1]])


def distances(codes: Tensor) -> Tensor:
    return (codes - TARGETS).square().sum(1)


def test_each_row_comes_to_rest_at_its_own_minimum() -> None:
    assert torch.allclose(descend(distances, torch.zeros(3, 2), 200), TARGETS, atol=1e-3)


def test_without_steps_codes_are_where_they_started() -> None:
    starts = torch.rand(3, 2)
    assert torch.equal(descend(distances, starts, 0), starts)


def test_the_first_step_is_as_long_as_the_rate_and_the_last_one_the_shortest() -> None:
    once, twice = (descend(distances, torch.zeros(3, 2), steps) for steps in (1, 2))
    assert torch.allclose(once, RATE * TARGETS.sign(), rtol=1e-4)
    assert torch.allclose((twice - once).abs(), torch.full((3, 2), 0.5 * RATE), rtol=0.35)


def test_rows_do_not_influence_each_other() -> None:
    together = descend(distances, torch.zeros(3, 2), 20)
    for row in range(3):
        alone = descend(lambda codes, row=row: distances(codes)[row : row + 1], torch.zeros(1, 2), 20)  # type: ignore[misc]
        assert torch.allclose(alone, together[row : row + 1], atol=1e-6)


def test_gradients_may_be_switched_off_and_none_is_left_behind() -> None:
    weight = torch.tensor([2.0, 1.0], requires_grad=True)
    with torch.inference_mode():
        codes = descend(lambda codes: (weight * codes - TARGETS).square().sum(1), torch.zeros(3, 2), 300)
    assert torch.allclose(codes, TARGETS / torch.tensor([2.0, 1.0]), atol=2e-3)
    assert weight.grad is None
    assert not codes.requires_grad


def test_of_several_starts_the_one_that_ends_lowest_counts() -> None:
    def two_valleys(codes: Tensor) -> Tensor:  # at -1, where it is 0.5, and at 1, where it is 0
        x = codes[:, 0]
        return (x.square() - 1).square() + 0.25 * (1 - x)

    starts = torch.tensor([[-0.9], [0.9]])
    ends = descend(two_valleys, starts, 200)
    codes, losses = search(two_valleys, starts, 3, 200)
    assert codes.shape == (3, 1)
    assert torch.equal(codes, ends[1:].expand(3, 1))
    assert losses.tolist() == pytest.approx([float(two_valleys(ends)[1])] * 3)
    only_left, left_losses = search(two_valleys, starts[:1], 3, 200)
    assert float(only_left.max()) < 0 < float(losses.max() + 0.1) < float(left_losses.min())
