import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from torch import Tensor, nn

from blemish.blocks.gan.gradient_penalty import gradient_penalty
from blemish.blocks.gan.losses import wasserstein_critic_loss, wasserstein_generator_loss

SHAPE = (5, 3, 4, 6)


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.0, 4.0))
@settings(deadline=None, max_examples=30)
def test_a_linear_critics_penalty_is_known_exactly(seed: int, scale: float) -> None:
    torch.manual_seed(seed)
    weights = scale * torch.randn(SHAPE[1:], dtype=torch.float64)
    real, fake = torch.randn(2, *SHAPE, dtype=torch.float64)
    found = gradient_penalty(lambda x: (x * weights).flatten(1).sum(1), real, fake)
    assert float(found) == pytest.approx((float(weights.norm()) - 1) ** 2, abs=1e-12)


def test_every_image_has_one_share_of_its_own_from_0_to_1() -> None:
    """With real pictures all 0 and made ones all 1, what the critic sees is the share itself."""
    seen: list[Tensor] = []

    def critic(pictures: Tensor) -> Tensor:
        seen.append(pictures.detach())
        return pictures.flatten(1).sum(1)

    torch.manual_seed(0)
    gradient_penalty(critic, torch.zeros(1000, 3, 4, 4), torch.ones(1000, 3, 4, 4))
    (between,) = seen
    shares = between[:, 0, 0, 0]
    assert torch.equal(between, shares[:, None, None, None].expand_as(between))
    assert len(shares.unique()) > 990
    assert 0 <= float(shares.min()) < 0.01
    assert 0.99 < float(shares.max()) <= 1
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.05)


def test_its_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.Softplus(), nn.Linear(5, 1)).double()
    real, fake = torch.randn(2, 4, 6, dtype=torch.float64)

    def penalty() -> Tensor:
        torch.manual_seed(1)
        return gradient_penalty(network, real, fake)

    penalty().backward()
    first = network[0].weight
    assert isinstance(first, nn.Parameter)
    assert first.grad is not None
    step = 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            first[2, 3] += sign * step
        values.append(float(penalty().detach()))
        with torch.no_grad():
            first[2, 3] -= sign * step
    assert float(first.grad[2, 3]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)


def test_nothing_is_learned_through_the_pictures() -> None:
    fake = torch.rand(2, 3, requires_grad=True)
    weights = torch.ones(3, requires_grad=True)
    gradient_penalty(lambda x: (x * weights).sum(1), torch.rand(2, 3), fake).backward()
    assert fake.grad is None
    assert weights.grad is not None


def test_losses_on_given_scores() -> None:
    real, fake = torch.tensor([3.0, 5.0]), torch.tensor([1.0, 0.0])
    assert float(wasserstein_critic_loss(real, fake)) == -3.5
    assert float(wasserstein_generator_loss(fake)) == -0.5


def critics_loss(weight: float) -> tuple[float, float]:
    """A trained critic's loss between samples of two Gaussians on a line, and their exact distance."""
    torch.manual_seed(0)
    real, fake = 0.5 + torch.randn(256, 1), -0.5 + torch.randn(256, 1)
    critic = nn.Sequential(nn.Linear(1, 16), nn.Softplus(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    losses = []
    for _ in range(300):
        loss = wasserstein_critic_loss(critic(real), critic(fake))
        if weight:
            loss = loss + weight * gradient_penalty(critic, real, fake)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses[-50:])), float(wasserstein_distance(real[:, 0].numpy(), fake[:, 0].numpy()))


def test_the_critics_loss_ends_at_minus_the_wasserstein_distance() -> None:
    loss, exact = critics_loss(weight=10.0)
    assert -loss == pytest.approx(exact, rel=0.05)


def test_without_the_penalty_it_is_far_off() -> None:
    loss, exact = critics_loss(weight=0.0)
    assert -loss > 2 * exact
