import pytest
import torch
from torch import Tensor

from blemish.blocks.autoencoders.ssim import ssim_map


def by_brute_force(a: Tensor, b: Tensor, y: int, x: int) -> float:
    """Wang et al.'s formula for one pixel of two pictures (H, W), with a window of 11 × 11."""
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    weights = torch.exp(-(offsets[:, None].square() + offsets.square()) / (2 * 1.5**2))
    weights /= weights.sum()
    p, q = (v[y - 5 : y + 6, x - 5 : x + 6].double() for v in (a, b))
    mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
    var_p, var_q = (weights * (p - mean_p) ** 2).sum(), (weights * (q - mean_q) ** 2).sum()
    covariance = (weights * (p - mean_p) * (q - mean_q)).sum()
    numerator = (2 * mean_p * mean_q + 1e-4) * (2 * covariance + 9e-4)
    return float(numerator / ((mean_p**2 + mean_q**2 + 1e-4) * (var_p + var_q + 9e-4)))


def test_every_pixel_is_that_of_the_formula() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(1, 2, 20, 24)
    others = (pictures + 0.2 * torch.randn_like(pictures)).clamp(0, 1)
    similarity = ssim_map(pictures, others)
    assert similarity.shape == pictures.shape
    for channel, y, x in [(0, 5, 5), (1, 9, 17), (0, 14, 18)]:
        expected = by_brute_force(pictures[0, channel], others[0, channel], y, x)
        assert float(similarity[0, channel, y, x]) == pytest.approx(expected, abs=1e-5)


def test_equal_pictures_are_wholly_similar_and_inverted_ones_are_not() -> None:
    torch.manual_seed(1)
    pictures = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(ssim_map(pictures, pictures), torch.ones_like(pictures))
    assert float(ssim_map(pictures, 1 - pictures).mean()) < -0.5


def test_the_order_of_the_two_does_not_matter_and_values_stay_within_one() -> None:
    torch.manual_seed(2)
    pictures, others = torch.rand(2, 2, 3, 18, 18)
    similarity = ssim_map(pictures, others)
    torch.testing.assert_close(similarity, ssim_map(others, pictures))
    assert float(similarity.abs().max()) <= 1 + 1e-5


def test_it_leads_to_the_picture_it_is_asked_for() -> None:
    torch.manual_seed(3)
    picture = torch.rand(1, 1, 16, 16)
    guess = torch.full_like(picture, 0.5).requires_grad_()
    optimizer = torch.optim.Adam([guess], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        (1 - ssim_map(picture, guess)).mean().backward()
        optimizer.step()
    assert float(ssim_map(picture, guess.detach()).mean()) > 0.98
