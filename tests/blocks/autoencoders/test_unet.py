import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.autoencoders.unet import UNet


def drawn(width: int = 4, depth: int = 2, **channels: int) -> UNet:
    network = UNet(width, depth, **channels)
    torch.manual_seed(0)
    network.reset_parameters()
    return network.eval()


def by_hand(network: UNet, pictures: Tensor) -> Tensor:
    """Depth 1, written out with the network's weights."""

    def level(features: Tensor, layers: nn.Module) -> Tensor:
        convolutions = [layer for layer in layers.children() if isinstance(layer, nn.Conv2d)]
        assert len(convolutions) == 2
        for convolution in convolutions:
            features = functional.conv2d(features, convolution.weight, convolution.bias, padding=1)
            groups = features.unflatten(1, (4, -1)).flatten(2)
            normal = (groups - groups.mean(2, keepdim=True)) / (
                groups.var(2, correction=0, keepdim=True) + 1e-5
            ).sqrt()
            features = normal.view_as(features)
            features = features * features.sigmoid()
        return features

    fine = level(pictures, network.down[0])
    halved = fine.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))
    coarse = level(halved, network.down[1])
    enlarged = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    features = level(torch.cat([enlarged, fine], dim=1), network.up[0])
    return functional.conv2d(features, network.last.weight, network.last.bias)


def test_is_what_the_formula_says() -> None:
    network = drawn(width=4, depth=1)
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = 4
    pictures = torch.rand(2, 3, 8, 12)
    with torch.no_grad():
        assert torch.allclose(network(pictures), by_hand(network, pictures), atol=1e-5)


@pytest.mark.parametrize(("depth", "size"), [(0, (5, 7)), (1, (6, 10)), (3, (8, 24))])
def test_keeps_any_size_that_halves_often_enough(depth: int, size: tuple[int, int]) -> None:
    network = drawn(depth=depth, inputs=5, outputs=2)
    with torch.no_grad():
        assert network(torch.rand(3, 5, *size)).shape == (3, 2, *size)
    assert [module.num_channels for module in network.modules() if isinstance(module, nn.GroupNorm)][
        2 * depth
    ] == 4 << depth


def test_groups_divide_the_channels() -> None:
    groups = [
        module.num_groups for module in drawn(width=6, depth=1).modules() if isinstance(module, nn.GroupNorm)
    ]
    assert groups == [2, 2, 4, 4, 2, 2]


def test_details_pass_on_the_skip_only() -> None:
    """What the last level gets: features that are equal in squares of two by two, and fine ones that are not."""
    network = drawn(depth=2)
    seen: list[Tensor] = []
    network.up[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(torch.rand(1, 3, 32, 32))
    enlarged, fine = seen[0].split([8, 4], dim=1)
    assert torch.equal(enlarged[..., ::2, ::2], enlarged[..., 1::2, 1::2])
    assert not torch.equal(fine[..., ::2, ::2], fine[..., 1::2, 1::2])


def test_every_parameter_is_drawn_anew_by_the_seed() -> None:
    with torch.device("meta"):
        network = UNet(4, 2)
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        nn.init.constant_(parameter, 7.0)
    torch.manual_seed(0)
    network.reset_parameters()
    for name, parameter in drawn().named_parameters():
        assert torch.equal(parameter, network.get_parameter(name)), name
