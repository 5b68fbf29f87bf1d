import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.gan.residual import (
    DoubledConv,
    HalvedConv,
    ResidualBlock,
    ResidualBody,
    ResidualCritic,
    ResidualEncoder,
    ResidualGenerator,
    init_residual_gan,
    layer_norm,
)


def layers(network: nn.Module, kind: type[nn.Conv2d]) -> list[nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, kind)]


def test_a_halved_convolution_is_the_convolution_then_the_mean_of_four() -> None:
    torch.manual_seed(0)
    conv, grid = HalvedConv(3, 5).double(), torch.randn(2, 3, 8, 12, dtype=torch.float64)
    expected = functional.avg_pool2d(functional.conv2d(grid, conv.weight, conv.bias, padding=1), 2)
    assert torch.allclose(conv(grid), expected, atol=1e-12)


def test_a_doubled_convolution_is_nearest_doubling_then_the_convolution() -> None:
    torch.manual_seed(0)
    conv, grid = DoubledConv(3, 5).double(), torch.randn(2, 3, 4, 6, dtype=torch.float64)
    doubled = grid.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(conv(grid), functional.conv2d(doubled, conv.weight, padding=1), atol=1e-12)


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_shapes_and_ranges(size: int) -> None:
    generator, critic = ResidualGenerator(size, 2, 7), ResidualCritic(size, 2)
    pictures = generator(torch.randn(3, 7))
    assert pictures.shape == (3, 3, size, size)
    assert float(pictures.detach().abs().amax()) < 1
    assert critic(pictures).shape == (3,)
    assert critic.body(pictures).shape == (3, critic.body.features)
    assert ResidualEncoder(size, 2, 7, tanh=False)(pictures).shape == (3, 7)


def test_at_64_pixels_the_channels_are_those_of_the_authors() -> None:
    with torch.device("meta"):
        generator, critic = ResidualGenerator(64, 64, 128), ResidualCritic(64, 64)
    shortcuts = [c for c in layers(generator, nn.Conv2d) if c.kernel_size == (1, 1)]
    assert [(c.in_channels, c.out_channels) for c in shortcuts] == [
        (512, 512), (512, 256), (256, 128), (128, 64)
    ]  # fmt: skip
    shortcuts = [c for c in layers(critic, nn.Conv2d) if c.kernel_size == (1, 1)]
    assert [(c.in_channels, c.out_channels) for c in shortcuts] == [
        (64, 128), (128, 256), (256, 512), (512, 512)
    ]  # fmt: skip
    assert critic.body.features == critic.head.in_features == 8192


def test_the_critics_norm_is_over_all_numbers_of_one_picture() -> None:
    torch.manual_seed(0)
    norm, grid = layer_norm(4), 3 + 5 * torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        norm.bias.fill_(0.5)
    flat = grid.flatten(1)
    plain = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    expected = plain.view_as(grid) * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None] + 0.5
    assert torch.allclose(norm(grid), expected, atol=1e-5)


def mixing(network: nn.Module) -> float:
    """Largest slope of one picture's outputs along the other pictures of its batch."""
    torch.manual_seed(0)
    init_residual_gan(network)
    pictures = torch.randn(3, 3, 16, 16, requires_grad=True)
    outputs: Tensor = network(pictures)
    (slopes,) = torch.autograd.grad(outputs[0].square().sum(), pictures)
    assert float(slopes[0].abs().max()) > 0
    return float(slopes[1:].abs().max())


def test_the_critic_never_mixes_pictures() -> None:
    assert mixing(ResidualCritic(16, 2)) == 0
    assert mixing(ResidualBody(16, 2, nn.BatchNorm2d)) > 0  # what batch norm would do to the penalty


def test_a_blocks_branch_is_added_to_its_shortcut() -> None:
    grid = torch.randn(1, 2, 4, 4)
    block = ResidualBlock(nn.Identity(), nn.Sequential(nn.ReLU()))
    assert torch.equal(block(grid), grid + grid.clamp_min(0))


def test_tanh_bounds_the_codes() -> None:
    pictures = torch.rand(4, 3, 16, 16) * 2 - 1
    for tanh in (False, True):
        encoder = ResidualEncoder(16, 2, 5, tanh=tanh)
        init_residual_gan(encoder)
        with torch.no_grad():
            for parameter in encoder[1].parameters():
                parameter.mul_(20).add_(3)
            largest = float(encoder(pictures).abs().max())
        assert (largest <= 1) == tanh


def test_draw_decides_everything_and_forgets_batch_norm() -> None:
    networks = [ResidualGenerator(16, 2, 5) for _ in range(2)]
    networks[0](torch.randn(4, 5))  # moves the running statistics
    for network in networks:
        torch.manual_seed(3)
        init_residual_gan(network)
    first, second = (network.state_dict() for network in networks)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_of_the_branches_keep_the_variance_behind_a_relu() -> None:
    critic = ResidualCritic(16, 16)
    torch.manual_seed(0)
    init_residual_gan(critic)
    conv = layers(critic, HalvedConv)[-1]
    assert float(conv.weight.detach().std()) == pytest.approx(math.sqrt(2 / (conv.in_channels * 9)), rel=0.05)
    head = critic.head
    assert float(head.weight.detach().std()) == pytest.approx(math.sqrt(2 / (head.in_features + 1)), rel=0.1)
    assert float(head.bias.detach().abs().max()) == 0
