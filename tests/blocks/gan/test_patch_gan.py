import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.gan.dcgan import init_dcgan
from blemish.blocks.gan.patch_gan import PatchGAN


def drawn(width: int) -> PatchGAN:
    torch.manual_seed(0)
    network = PatchGAN(width)
    init_dcgan(network)
    return network.eval()


def by_formula(network: PatchGAN, pictures: Tensor) -> Tensor:
    weights = iter(network.state_dict().values())

    def leaky(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.2 * x)

    def norm(x: Tensor) -> Tensor:
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt()

    x = leaky(functional.conv2d(pictures, next(weights), next(weights), stride=2, padding=1))
    for stride in (2, 2, 1):
        x = leaky(norm(functional.conv2d(x, next(weights), stride=stride, padding=1)))
    return functional.conv2d(x, next(weights), next(weights), padding=1)


def test_the_network_is_the_papers() -> None:
    network = drawn(2).double()
    pictures = torch.rand(2, 3, 32, 48, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(network(pictures), by_formula(network, pictures), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [32, 64, 96])
def test_there_is_a_score_per_patch(size: int) -> None:
    assert drawn(2)(torch.zeros(3, 3, size, size)).shape == (3, 1, size // 8 - 2, size // 8 - 2)


def test_channels_double_up_to_eight_times_the_width() -> None:
    widths = [module.out_channels for module in PatchGAN(5) if isinstance(module, nn.Conv2d)]
    assert widths == [5, 10, 20, 40, 1]


def test_a_score_sees_70_pixels_each_way() -> None:
    network = drawn(2)
    without_norms = nn.Sequential(*(m for m in network if not isinstance(m, nn.InstanceNorm2d)))
    pictures = torch.rand(1, 3, 128, 128, requires_grad=True)
    without_norms(pictures)[0, 0, 7, 7].backward()
    assert pictures.grad is not None
    rows, columns = pictures.grad[0].abs().sum(0).nonzero().T
    assert int(rows.max() - rows.min()) + 1 == 70
    assert int(columns.max() - columns.min()) + 1 == 70
