import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.gan.dcgan import init_dcgan
from blemish.blocks.gan.resnet_generator import ResNetGenerator


def drawn(width: int, blocks: int, seed: int = 0) -> ResNetGenerator:
    torch.manual_seed(seed)
    network = ResNetGenerator(width, blocks)
    init_dcgan(network)
    return network.eval()


def by_formula(network: ResNetGenerator, pictures: Tensor, blocks: int, mode: str = "reflect") -> Tensor:
    """The generator of the paper, layer by layer from the list of its weights."""
    weights = iter(network.state_dict().values())

    def pad(x: Tensor, width: int) -> Tensor:
        return functional.pad(x, (width,) * 4, mode=mode)

    def norm(x: Tensor) -> Tensor:
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt()

    x = norm(functional.conv2d(pad(pictures, 3), next(weights))).relu()
    for _ in range(2):
        x = norm(functional.conv2d(x, next(weights), stride=2, padding=1)).relu()
    for _ in range(blocks):
        inner = norm(functional.conv2d(pad(x, 1), next(weights))).relu()
        x = x + norm(functional.conv2d(pad(inner, 1), next(weights)))
    for _ in range(2):
        # A transposed convolution is one over the picture with zeros between its pixels, its kernel turned round.
        spread = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
        spread[:, :, ::2, ::2] = x
        kernel = next(weights).flip(2, 3).transpose(0, 1)
        x = norm(functional.conv2d(functional.pad(spread, (1, 1, 1, 1)), kernel)).relu()
    return torch.tanh(functional.conv2d(pad(x, 3), next(weights), next(weights)))


@pytest.mark.parametrize(("width", "blocks", "size"), [(2, 1, (8, 8)), (3, 3, (12, 20))])
def test_the_network_is_the_papers(width: int, blocks: int, size: tuple[int, int]) -> None:
    network = drawn(width, blocks).double()
    pictures = torch.rand(2, 3, *size, dtype=torch.float64) * 2 - 1
    expected = by_formula(network, pictures, blocks)
    torch.testing.assert_close(network(pictures), expected, rtol=0, atol=1e-9)
    assert expected.abs().max() > 1e-2
    assert (by_formula(network, pictures, blocks, "constant") - expected).abs().max() > 1e-3


def test_it_has_as_many_weights_as_the_papers_without_the_biases_that_norms_take_away() -> None:
    with torch.device("meta"):
        network = ResNetGenerator(64, 9)
    counts = [2 * 3 * 64 * 49, 2 * 64 * 128 * 9, 2 * 128 * 256 * 9, 18 * 256 * 256 * 9, 3]
    assert sum(p.numel() for p in network.parameters()) == sum(counts)


def test_each_picture_is_translated_on_its_own() -> None:
    network = drawn(4, 2)
    pictures = torch.rand(3, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        single = torch.cat([network(picture[None]) for picture in pictures])
        torch.testing.assert_close(network(pictures), single)
        assert (single[0] - single[1]).abs().max() > 1e-3


def test_weights_are_normal_with_a_deviation_of_two_hundredths_and_the_seed_decides_them() -> None:
    network = drawn(16, 2)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            weights = module.weight.detach().flatten()
            assert float(weights.std()) == pytest.approx(0.02, rel=4 / len(weights) ** 0.5)
            assert abs(float(weights.mean())) < 4 * 0.02 / len(weights) ** 0.5
            assert module.bias is None or not module.bias.any()
    again, other = drawn(16, 2), drawn(16, 2, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(network.parameters()), next(other.parameters()))


def test_only_a_standardised_translation_keeps_brightness_and_contrast() -> None:
    """Instance norms remove both from the published generator's features, so its output hardly changes."""
    pictures = torch.rand(2, 3, 32, 32) - 0.5
    network = drawn(4, 1)
    inside = (slice(None), slice(None), slice(8, 24), slice(8, 24))  # zero padding tells at the borders
    with torch.no_grad():
        for factor, shift in ((1.0, 0.3), (0.5, 0.0)):
            changed = factor * pictures + shift
            network.standardised = False
            plain, other = network(pictures)[inside], network(changed)[inside]
            assert float((other - plain).abs().max()) < 0.02
            network.standardised = True
            expected = factor * network(pictures) + shift
            torch.testing.assert_close(network(changed), expected, rtol=0, atol=1e-4)


def test_a_standardised_even_picture_stays_nearly_as_it_is() -> None:
    network = drawn(4, 1)
    network.standardised = True
    with torch.no_grad():
        found = network(torch.full((1, 3, 16, 16), 0.4))
    assert float((found - 0.4).abs().max()) <= 0.03
