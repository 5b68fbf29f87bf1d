"""The siamese loss: its value, and which branch its gradient reaches."""

import pytest
import torch
from torch import nn

from blemish.blocks.siamese import SiameseHead, negative_cosine


def test_it_is_the_mean_negative_cosine_over_positions() -> None:
    prediction, target = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    cosines = [
        float(a @ b / (a.norm() * b.norm()))
        for a, b in zip(
            prediction.permute(0, 2, 3, 1).reshape(-1, 4),
            target.permute(0, 2, 3, 1).reshape(-1, 4),
            strict=True,
        )
    ]
    assert float(negative_cosine(prediction, target)) == pytest.approx(-sum(cosines) / 30, abs=1e-6)
    assert float(negative_cosine(prediction, 3 * prediction)) == pytest.approx(-1)


def test_no_gradient_reaches_the_target() -> None:
    prediction, target = (torch.randn(1, 4, 2, 2, requires_grad=True) for _ in range(2))
    negative_cosine(prediction, target).backward()
    assert prediction.grad is not None
    assert prediction.grad.abs().max() > 0
    assert target.grad is None


def test_both_maps_predict_each_other() -> None:
    head = SiameseHead(4, 6)
    head.init_random()
    first, second = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    a, b = head.encoder(first), head.encoder(second)
    expected = (negative_cosine(head.predictor(a), b) + negative_cosine(head.predictor(b), a)) / 2
    assert torch.allclose(head(first, second), expected)
    assert torch.allclose(head(first, second), head(second, first))


def test_the_gradient_passes_through_the_predictor_only() -> None:
    """With a predictor that ignores its input, nothing upstream of it learns."""
    head = SiameseHead(4, 6)
    head.init_random()
    last = head.predictor[-1]
    assert isinstance(last, nn.Conv2d)
    nn.init.zeros_(last.weight)
    first = torch.randn(3, 4, 2, 2, requires_grad=True)
    head(first, torch.randn(3, 4, 2, 2)).backward()
    assert first.grad is not None
    assert first.grad.abs().max() == 0
