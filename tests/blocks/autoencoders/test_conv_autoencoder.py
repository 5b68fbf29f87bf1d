import pytest
import torch
from torch import nn

from blemish.blocks.autoencoders.conv_autoencoder import (
    ConvDecoder,
    ConvEncoder,
    init_conv_autoencoder,
)


def convolutions(network: nn.Module) -> list[tuple[int, int, int, int]]:
    """Channels in and out, side and stride of each layer."""
    return [
        (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0])
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]


def test_the_encoder_for_128_pixels_is_the_papers() -> None:
    assert convolutions(ConvEncoder(128, 32, 100)) == [
        (3, 32, 4, 2),
        (32, 32, 4, 2),
        (32, 32, 3, 1),
        (32, 64, 4, 2),
        (64, 64, 3, 1),
        (64, 128, 4, 2),
        (128, 64, 3, 1),
        (64, 32, 3, 1),
        (32, 100, 8, 1),
    ]


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_the_decoder_is_the_encoder_the_other_way_round(size: int) -> None:
    encoder, decoder = ConvEncoder(size, 8, 5), ConvDecoder(size, 8, 5)
    mirrored = [(after, before, side, step) for before, after, side, step in convolutions(encoder)]
    assert convolutions(decoder) == mirrored[::-1]
    codes = encoder(torch.rand(2, 3, size, size))
    assert codes.shape == (2, 5, 1, 1)
    pictures = decoder(codes)
    assert pictures.shape == (2, 3, size, size)
    assert 0 < float(pictures.detach().min()) <= float(pictures.detach().max()) < 1


def test_the_signal_keeps_its_strength_through_all_layers() -> None:
    torch.manual_seed(0)
    encoder, decoder = ConvEncoder(64, 16, 12), ConvDecoder(64, 16, 12)
    init_conv_autoencoder(encoder)
    init_conv_autoencoder(decoder)
    with torch.no_grad():
        codes = encoder(torch.randn(16, 3, 64, 64))
        before_sigmoid = nn.Sequential(*list(decoder)[:-1])(torch.randn(16, 12, 1, 1))
    assert 0.4 < float(codes.std()) < 2.5
    assert 0.4 < float(before_sigmoid.std()) < 2.5


def test_drawing_changes_every_layer_as_the_seed_says() -> None:
    encoder = ConvEncoder(32, 4, 3)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    torch.manual_seed(7)
    init_conv_autoencoder(encoder)
    drawn = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert not any(torch.equal(drawn[name], before[name]) for name in before)
    assert all(not value.any() for name, value in drawn.items() if name.endswith("bias"))
    torch.manual_seed(7)
    init_conv_autoencoder(encoder)
    assert all(torch.equal(value, drawn[name]) for name, value in encoder.state_dict().items())
