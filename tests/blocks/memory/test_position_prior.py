import pytest
import torch
from torch import Tensor

from blemish.blocks.memory import position_prior
from blemish.blocks.memory.position_prior import PositionPrior, packed, unpacked


def by_brute_force(nearest: Tensor, patches: int, share: float) -> Tensor:
    """Allowed (h, w, M), each vote counted on its own."""
    images, height, width = nearest.shape
    votes = torch.zeros(height, width, patches, dtype=torch.int64)
    for image in range(images):
        for row in range(height):
            for column in range(width):
                patch = int(nearest[image, row, column])
                if patch < 0:
                    continue
                for r in range(max(0, row - 4), min(height, row + 5)):
                    for c in range(max(0, column - 4), min(width, column + 5)):
                        votes[r, c, patch] += 1
    allowed = torch.ones(height, width, patches, dtype=torch.bool)
    for r in range(height):
        for c in range(width):
            total = int(votes[r, c].sum())
            for patch in range(patches):
                if total:
                    allowed[r, c, patch] = int(votes[r, c, patch]) / total > share
    return allowed


@pytest.mark.parametrize("numbers", [2**24, 1])
@pytest.mark.parametrize("size", [(12, 15), (3, 20), (1, 1)])
def test_the_prior_is_the_histogram_of_the_votes_in_9_by_9_windows(
    size: tuple[int, int], numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(position_prior, "NUMBERS", numbers)
    generator = torch.Generator().manual_seed(1)
    nearest = torch.randint(-1, 19, (3, *size), generator=generator, dtype=torch.int32)
    prior = PositionPrior()
    prior.fill(nearest, 19, 0.5 / 19)
    expected = by_brute_force(nearest, 19, 0.5 / 19)
    assert torch.equal(prior.allowed(slice(None), 19), expected.flatten(0, 1))
    if size != (1, 1):
        assert 0 < int(expected.sum()) < expected.numel()


def test_a_patch_is_allowed_above_the_share_and_not_at_it() -> None:
    nearest = torch.tensor([0, 0, 0, 1]).view(4, 1, 1)
    for share, expected in ((0.25, [True, False, False]), (0.2499, [True, True, False])):
        prior = PositionPrior()
        prior.fill(nearest, 3, share)
        assert prior.allowed(slice(None), 3).tolist() == [expected]


def test_where_nobody_votes_all_are_allowed() -> None:
    nearest = torch.full((2, 1, 30), -1)
    nearest[:, 0, :10] = 1
    prior = PositionPrior()
    prior.fill(nearest, 3, 0.1)
    found = prior.allowed(slice(None), 3)
    assert found[:14].tolist() == [[False, True, False]] * 14  # ten cells, and four that their windows reach
    assert found[14:].all()


@pytest.mark.parametrize("count", [1, 8, 13])
def test_flags_survive_packing(count: int) -> None:
    flags = torch.rand(7, count, generator=torch.Generator().manual_seed(0)) < 0.5
    bits = packed(flags)
    assert bits.shape == (7, -(-count // 8))
    assert bits.dtype == torch.uint8
    assert PositionPrior.bytes_of(7, count) == bits.nbytes
    assert torch.equal(unpacked(bits)[:, :count], flags)
