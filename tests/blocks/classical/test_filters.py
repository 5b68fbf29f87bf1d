import numpy as np
import torch
from hypothesis import strategies as st
from scipy import ndimage

from blemish.blocks.classical.filters import NOISE, FilterBank, gabor_kernels, gradient_magnitude

bands = st.integers(0, 12)


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def test_gradient_magnitude_is_that_of_central_differences() -> None:
    images = random_images(1, 2, 10, 12)
    expected = [
        np.hypot(*(ndimage.correlate1d(plane, [-0.5, 0, 0.5], axis=axis, mode="nearest") for axis in (0, 1)))
        for plane in images[0].numpy()
    ]
    np.testing.assert_allclose(gradient_magnitude(images)[0].numpy(), expected, atol=1e-6)


def test_gabor_kernels_have_no_mean_and_unit_norm() -> None:
    kernels = gabor_kernels(6, 6.0)
    assert kernels.shape[:2] == (12, 1)
    torch.testing.assert_close(kernels.sum((1, 2, 3)), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(kernels.square().sum((1, 2, 3)), torch.ones(12))


def test_gabor_kernels_answer_to_their_own_direction() -> None:
    kernels = gabor_kernels(4, 6.0)[:, 0].numpy()
    size = kernels.shape[-1]
    y, x = np.mgrid[:size, :size] - size // 2
    for direction in range(4):
        angle = np.pi * direction / 4
        wave = np.cos(2 * np.pi / 6 * (x * np.cos(angle) + y * np.sin(angle)))
        even, odd = (kernels * wave).sum((1, 2)).reshape(2, 4)
        assert int(np.argmax(even**2 + odd**2)) == direction


def test_filter_bank_equals_scipy_at_full_resolution() -> None:
    images = random_images(1, 3, 20, 24)
    found = FilterBank(orientations=2, levels=1, stride=1)(images)[0].numpy()
    grey = images[0].mean(0).numpy().astype(np.float64)

    def blurred(plane: np.ndarray, sigma: float) -> np.ndarray:
        return np.asarray(ndimage.gaussian_filter(plane, sigma, mode="nearest"))

    responses = [
        ndimage.correlate(grey, kernel, mode="nearest")
        for kernel in gabor_kernels(2, 6.0)[:, 0].double().numpy()
    ]
    energies = [responses[i] ** 2 + responses[i + 2] ** 2 for i in range(2)]
    energies += [(blurred(grey, 1) - blurred(grey, 2)) ** 2, (grey - blurred(grey, 2)) ** 2]
    expected = [np.log(blurred(energy, 3) + NOISE) for energy in energies]
    expected += [blurred(plane, 3) for plane in images[0].double().numpy()]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_filter_bank_has_one_grid_for_all_levels_and_odd_sizes() -> None:
    bank = FilterBank(orientations=3, levels=3, stride=4)
    assert bank(random_images(2, 3, 37, 50)).shape == (2, bank.channels, 9, 12)


def test_filter_bank_energies_ignore_brightness() -> None:
    bank = FilterBank(orientations=3, levels=2, stride=2)
    images = random_images(1, 3, 24, 24)
    dark, bright = bank(images), bank(images + 2)
    energies = torch.arange(bank.channels) % 8 < 5
    torch.testing.assert_close(dark[:, energies], bright[:, energies], atol=1e-3, rtol=0)
    torch.testing.assert_close(dark[:, ~energies] + 2, bright[:, ~energies], atol=1e-4, rtol=0)
