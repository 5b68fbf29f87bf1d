import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.blocks.batch_norm import recalibrate


def batches(count: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, 5, 5, generator=generator) * (1 + i) + i for i in range(count)]


def mean_statistics(given: list[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over batches of the channels' mean and unbiased variance."""
    means = [batch.mean((0, 2, 3)) for batch in given]
    variances = [batch.var((0, 2, 3), ddof=1) for batch in given]
    return np.mean(means, 0), np.mean(variances, 0)


def statistics(norm: nn.Module) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean.double().numpy(), norm.running_var.double().numpy()


def test_statistics_are_the_mean_of_all_batches_whatever_was_there_before() -> None:
    norm = nn.BatchNorm2d(3)
    for _ in range(3):
        norm(torch.full((2, 3, 2, 2), 1e3))
    recalibrate(norm, batches())
    mean, variance = mean_statistics([batch.double().numpy() for batch in batches()])
    found_mean, found_variance = statistics(norm)
    np.testing.assert_allclose(found_mean, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found_variance, variance, rtol=1e-5)


def test_deeper_norms_see_what_the_norms_before_make_of_each_batch_itself() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 4, 3)
    network = nn.Sequential(nn.BatchNorm2d(3), convolution, nn.BatchNorm2d(4)).eval()
    recalibrate(network, batches())
    with torch.no_grad():
        seen = [
            convolution(nn.functional.batch_norm(batch, None, None, training=True)) for batch in batches()
        ]
    for found, expected in zip(
        statistics(network[2]), mean_statistics([batch.double().numpy() for batch in seen]), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_modes_momenta_and_other_modules_stay(training: bool) -> None:
    network = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3), nn.Dropout(0.9)).train(training)
    network[1].eval()
    before = torch.get_rng_state()
    recalibrate(network, batches())
    assert torch.equal(torch.get_rng_state(), before), "the dropout was on"
    assert network[0].training is training
    assert network[0].momentum == 0.3
    assert not network[1].training


def test_usual_running_statistics_are_something_else() -> None:
    norm = nn.BatchNorm2d(3)
    for batch in batches():
        norm(batch)
    mean, _ = mean_statistics([batch.double().numpy() for batch in batches()])
    assert float(np.abs(statistics(norm)[0] - mean).max()) > 0.5
