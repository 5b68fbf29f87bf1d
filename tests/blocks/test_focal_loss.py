import math

import pytest
import torch
from torch.nn import functional

from blemish.blocks.focal_loss import focal_loss


@pytest.mark.parametrize(("alpha", "gamma"), [(0.5, 4.0), (0.25, 2.0)])
def test_is_what_the_formula_says(alpha: float, gamma: float) -> None:
    logits, targets = [-2.0, 0.3, 1.5, -0.7], [1, 1, 0, 0]
    total = 0.0
    for logit, target in zip(logits, targets, strict=True):
        rare = 1 / (1 + math.exp(-logit))
        right, weight = (rare, alpha) if target else (1 - rare, 1 - alpha)
        total += -weight * (1 - right) ** gamma * math.log(right)
    loss = focal_loss(torch.tensor(logits), torch.tensor(targets), alpha=alpha, gamma=gamma)
    assert float(loss) == pytest.approx(total / 4, rel=1e-5)


def test_without_focus_it_is_half_the_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 1, 5, 5), (torch.rand(3, 1, 5, 5) < 0.3).float()
    expected = functional.binary_cross_entropy_with_logits(logits, targets) / 2
    assert torch.allclose(focal_loss(logits, targets, alpha=0.5, gamma=0.0), expected)


def test_large_logits_have_finite_losses_and_gradients() -> None:
    logits = torch.tensor([200.0, -200.0, 200.0, -200.0], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([0.0, 0.0, 1.0, 1.0]), alpha=0.5, gamma=4.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(50)
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx([1 / 8, 0, 0, -1 / 8])
