import pytest
import torch
from torch import nn
from torch.nn import functional

from blemish.blocks.autoencoders.feature_autoencoder import FeatureAutoencoder


@torch.no_grad()
def test_at_256_pixels_it_is_the_network_of_the_paper() -> None:
    torch.manual_seed(0)
    network = FeatureAutoencoder(12).eval()
    images = torch.randn(1, 3, 256, 256)
    expected = images
    for convolution in network.halvings:
        assert isinstance(convolution, nn.Conv2d)
        expected = functional.conv2d(expected, convolution.weight, convolution.bias, 2, 1).relu()
    expected = network.code(expected)
    assert expected.shape == (1, 64, 1, 1)
    for side, convolution in zip((3, 8, 15, 32, 63, 127), network.growths, strict=True):
        expected = functional.interpolate(expected, size=side, mode="bilinear")
        expected = convolution(expected).relu()
        assert expected.shape[2:] == (side + 1, side + 1)
    expected = functional.interpolate(expected, size=56, mode="bilinear")
    expected = network.head(network.refine(expected).relu())
    assert torch.allclose(network(images, (56, 56)), expected, atol=1e-5)


@pytest.mark.parametrize(("size", "grid"), [((64, 96), (8, 16)), ((36, 300), (1, 67)), ((32, 32), (1, 1))])
@torch.no_grad()
def test_any_size_gives_the_grid_asked_for(size: tuple[int, int], grid: tuple[int, int]) -> None:
    network = FeatureAutoencoder(5).eval()
    assert network(torch.zeros(2, 3, *size), grid).shape == (2, 5, *grid)


@torch.no_grad()
def test_every_cell_depends_on_the_whole_image() -> None:
    torch.manual_seed(0)
    network = FeatureAutoencoder(4).eval()
    for parameter in network.parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter)  # torch's own initial weights let hardly a signal through
    images = torch.randn(1, 3, 64, 96)
    changed = images.clone()
    changed[..., :16, :16] += 3
    difference = (network(changed, (8, 16)) - network(images, (8, 16))).abs().amax(1)
    assert float(difference[0, -1, -1]) > 1e-4


@torch.no_grad()
def test_dropout_only_in_training() -> None:
    torch.manual_seed(0)
    network = FeatureAutoencoder(4)
    images = torch.randn(1, 3, 64, 64)
    network.train()
    assert not torch.equal(network(images, (8, 8)), network(images, (8, 8)))
    network.eval()
    assert torch.equal(network(images, (8, 8)), network(images, (8, 8)))
