import numpy as np
import pytest
import torch
from torch import Tensor

from blemish.blocks.diffusion.noise_schedule import TIMES, NoiseSchedule, Noisy

SMALL, LARGE = torch.tensor([0, 150, 299]), torch.tensor([300, 400, 999])


def shares(times: Tensor) -> tuple[Tensor, Tensor]:
    """√ᾱ and √(1 − ᾱ) of time steps, by a loop over the steps before: (N, 1, 1, 1) each."""
    left = np.ones(len(times))
    for index, time in enumerate(times.tolist()):
        for step in range(time + 1):
            left[index] *= 1 - (1e-4 + (0.02 - 1e-4) * step / 999)
    kept = torch.from_numpy(left).float()[:, None, None, None]
    return kept.sqrt(), (1 - kept).sqrt()


def parts(times: Tensor, images: Tensor, noise: Tensor, predicted: Tensor) -> Noisy:
    return Noisy(NoiseSchedule().q_sample(images, times, noise), times, predicted)


def test_hardly_anything_of_an_image_is_left_at_the_last_time_step() -> None:
    schedule = NoiseSchedule()
    left = schedule.image_share.square()
    assert len(left) == TIMES == 1000
    assert float(left[-1]) < 1e-4
    assert float(left[0]) == pytest.approx(1 - 1e-4)
    assert bool((left.diff() < 0).all())
    assert torch.allclose(left + schedule.noise_share.square(), torch.ones(TIMES))


def test_q_sample_is_the_sum_of_image_and_noise() -> None:
    torch.manual_seed(0)
    images, noise = torch.rand(3, 3, 4, 6), torch.randn(3, 3, 4, 6)
    image_share, noise_share = shares(LARGE)
    sampled = NoiseSchedule().q_sample(images, LARGE, noise)
    assert torch.allclose(sampled, image_share * images + noise_share * noise, atol=1e-5)


def test_q_sample_ends_where_the_steps_of_the_markov_chain_end() -> None:
    """Noise that is added in single steps has the mean and the variance of noise that is added at once."""
    torch.manual_seed(0)
    state = torch.full((20_000,), 0.8)
    for step in range(201):
        variance = 1e-4 + (0.02 - 1e-4) * step / 999
        state = (1 - variance) ** 0.5 * state + variance**0.5 * torch.randn_like(state)
    at_once = NoiseSchedule().q_sample(
        torch.full((1, 1, 100, 200), 0.8), torch.tensor([200]), torch.randn(1, 1, 100, 200)
    )
    assert float(at_once.mean()) == pytest.approx(float(state.mean()), abs=0.02)
    assert float(at_once.std()) == pytest.approx(float(state.std()), rel=0.02)


@pytest.mark.parametrize("times", [SMALL, LARGE])
def test_predict_x0_inverts_q_sample(times: Tensor) -> None:
    torch.manual_seed(0)
    images, noise = torch.rand(3, 3, 8, 8), torch.randn(3, 3, 8, 8)
    noisy = parts(times, images, noise, noise)
    assert torch.allclose(NoiseSchedule().predict_x0(noisy), images, atol=2e-4)  # √ᾱ is 0.006 at the end


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_with_the_true_noise_the_estimate_is_the_image(weight: float) -> None:
    torch.manual_seed(0)
    images, noises = torch.rand(3, 3, 8, 8), torch.randn(2, 3, 3, 8, 8)
    small, large = (
        parts(times, images, noise, noise) for times, noise in zip((SMALL, LARGE), noises, strict=True)
    )
    assert torch.allclose(NoiseSchedule().norm_guided(small, large, weight), images, atol=2e-4)


def test_without_guidance_the_estimate_is_that_of_the_small_time_step() -> None:
    torch.manual_seed(0)
    images, noise, wrong = torch.rand(3, 3, 8, 8), torch.randn(3, 3, 8, 8), torch.randn(3, 3, 8, 8)
    small, large = (parts(times, images, noise, wrong) for times in (SMALL, LARGE))
    schedule = NoiseSchedule()
    expected = schedule.predict_x0(small).clamp(-1, 1)
    assert torch.allclose(schedule.norm_guided(small, large, 0.0), expected)


@pytest.mark.parametrize("weight", [0.5, 1.0, 2.0])
def test_guidance_moves_the_estimate_towards_that_of_the_large_time_step(weight: float) -> None:
    """The formula, solved for the images: a step of weight · (1 − ᾱ) from one estimate to the other."""
    torch.manual_seed(0)
    images, noise = torch.rand(3, 3, 8, 8), torch.randn(2, 3, 3, 8, 8)
    small = parts(SMALL, images, noise[0], noise[0] + 0.1 * torch.randn(3, 3, 8, 8))
    large = parts(LARGE, images, noise[1], noise[1] + 0.1 * torch.randn(3, 3, 8, 8))
    fine, coarse = (
        (noisy.images - noise_share * noisy.noise) / image_share
        for noisy, (image_share, noise_share) in zip((small, large), map(shares, (SMALL, LARGE)), strict=True)
    )
    assert float((coarse.abs() > 1).float().mean()) > 0.1  # so that the clamp matters
    expected = fine + weight * shares(SMALL)[1] ** 2 * (coarse.clamp(-1, 1) - fine)
    guided = NoiseSchedule().norm_guided(small, large, weight)
    assert torch.allclose(guided, expected.clamp(-1, 1), atol=1e-4)
    assert not torch.allclose(guided, fine.clamp(-1, 1), atol=1e-2)
