import math

import pytest
import torch

from blemish.blocks.gan.losses import (
    bce_discriminator_loss,
    bce_generator_loss,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)

REAL, FAKE = torch.tensor([2.0, 0.5]), torch.tensor([-1.0, 0.0])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_binary_losses_are_cross_entropies() -> None:
    real = -sum(math.log(sigmoid(x)) for x in (2.0, 0.5)) / 2
    fake = -sum(math.log(1 - sigmoid(x)) for x in (-1.0, 0.0)) / 2
    assert float(bce_discriminator_loss(REAL, FAKE)) == pytest.approx((real + fake) / 2)
    fooled = -sum(math.log(sigmoid(x)) for x in (-1.0, 0.0)) / 2
    assert float(bce_generator_loss(FAKE)) == pytest.approx(fooled)


def test_squares_are_distances_from_one_and_zero() -> None:
    assert float(least_squares_discriminator_loss(REAL, FAKE)) == pytest.approx(
        ((1 + 0.25) / 2 + (1 + 0) / 2) / 2
    )
    assert float(least_squares_generator_loss(FAKE)) == pytest.approx((4 + 1) / 2)
    assert float(least_squares_discriminator_loss(torch.ones(3), torch.zeros(3))) == 0
    assert float(least_squares_generator_loss(torch.ones(3))) == 0


def test_wasserstein_losses_are_differences_of_means() -> None:
    assert float(wasserstein_critic_loss(REAL, FAKE)) == pytest.approx(-0.5 - 1.25)
    assert float(wasserstein_generator_loss(FAKE)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "loss", [bce_discriminator_loss, least_squares_discriminator_loss, wasserstein_critic_loss]
)
def test_a_discriminator_loses_where_it_takes_the_made_for_real(loss: object) -> None:
    assert callable(loss)
    assert float(loss(REAL, FAKE)) < float(loss(FAKE, REAL))
