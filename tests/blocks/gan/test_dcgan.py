import pytest
import torch
from torch import Tensor, nn

from blemish.blocks.gan.dcgan import (
    Discriminator,
    Downsampler,
    Encoder,
    Generator,
    dcgan_optimizers,
    init_dcgan,
    pyramid_channels,
)


def plain_encoder(width: int, code: int) -> nn.Sequential:
    """The encoder for 32 × 32, layer by layer."""
    return nn.Sequential(
        nn.Conv2d(3, width, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(4 * width),
        nn.LeakyReLU(0.2),
        nn.Conv2d(4 * width, code, 4, bias=False),
    )


def plain_decoder(width: int, code: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(code, 4 * width, 4, bias=False),
        nn.BatchNorm2d(4 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False),
        nn.Tanh(),
    )


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """By order, not by name; every tensor must fit."""
    values = list(source.state_dict().values())
    names = list(target.state_dict())
    target.load_state_dict(dict(zip(names, values, strict=True)))


@pytest.mark.parametrize("training", [True, False])
def test_networks_equal_their_layers_written_out(training: bool) -> None:
    torch.manual_seed(0)
    pictures, codes = torch.rand(3, 3, 32, 32) * 2 - 1, torch.randn(3, 7, 1, 1)
    pairs: list[tuple[nn.Module, nn.Sequential, Tensor]] = [
        (Encoder(32, 4, 512, 7), plain_encoder(4, 7), pictures),
        (Discriminator(32, 4, 512), plain_encoder(4, 1), pictures),
        (Generator(32, 4, 512, 7), plain_decoder(4, 7), codes),
    ]
    for ours, plain, given in pairs:
        init_dcgan(ours)
        copy_weights(ours, plain)
        for _ in range(2):  # the second time with other running statistics
            expected = plain.train(training)(given)
            assert torch.allclose(ours.train(training)(given), expected, rtol=1e-5, atol=1e-6)
            for a, b in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True):
                assert torch.allclose(a, b)
            ours.train()(given)
            plain.train()(given)


@pytest.mark.parametrize(
    ("size", "channels"), [(16, [6, 12]), (64, [6, 12, 24, 30]), (128, [6, 12, 24, 30, 30])]
)
def test_channels_double_up_to_the_most_on_the_way_to_four_by_four(size: int, channels: list[int]) -> None:
    assert pyramid_channels(size, 6, 30) == channels
    assert Downsampler(size, 6, 30)(torch.rand(2, 3, size, size)).shape == (2, channels[-1], 4, 4)
    assert Encoder(size, 6, 30, 5)(torch.rand(2, 3, size, size)).shape == (2, 5, 1, 1)
    pictures = Generator(size, 6, 30, 5)(torch.randn(2, 5, 1, 1))
    assert pictures.shape == (2, 3, size, size)
    assert float(pictures.detach().abs().max()) <= 1


def test_the_discriminators_logit_is_its_head_on_its_features() -> None:
    discriminator = Discriminator(32, 4, 512).eval()
    pictures = torch.rand(2, 3, 32, 32)
    assert torch.equal(discriminator(pictures), discriminator.head(discriminator.features(pictures)))


def test_drawing_starts_everything_anew() -> None:
    network = Encoder(32, 32, 512, 64)
    network(torch.rand(2, 3, 32, 32))
    torch.manual_seed(3)
    init_dcgan(network)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(norms) == 2
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert torch.equal(norm.running_mean, torch.zeros_like(norm.running_mean))
        assert torch.equal(norm.running_var, torch.ones_like(norm.running_var))
        assert int(norm.num_batches_tracked or 0) == 0
        assert not norm.bias.detach().any()
    scales = torch.cat([norm.weight.detach() for norm in norms])
    assert float(scales.mean()) == pytest.approx(1, abs=0.01)
    assert float(scales.std()) == pytest.approx(0.02, rel=0.2)
    for conv in convs:
        assert float(conv.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    first = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(3)
    init_dcgan(network)
    assert all(torch.equal(first[name], tensor) for name, tensor in network.state_dict().items())


def test_each_network_has_its_own_adam() -> None:
    generator, discriminator = Generator(16, 2, 4, 2), Discriminator(16, 2, 4)
    optimizers = dcgan_optimizers(generator, discriminator, 3e-4, 1e-4)
    assert list(optimizers) == ["generator", "discriminator"]
    expected = ((generator, 3e-4), (discriminator, 1e-4))
    for optimizer, (network, rate) in zip(optimizers.values(), expected, strict=True):
        (group,) = optimizer.param_groups
        assert (group["lr"], group["betas"]) == (rate, (0.5, 0.999))
        assert {id(p) for p in group["params"]} == {id(p) for p in network.parameters()}
