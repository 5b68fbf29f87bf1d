import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.diffusion.denoising_unet import Attention, DenoisingUNet, Residual, Stage, time_embedding


def drawn(
    size: int = 16, width: int = 8, multipliers: tuple[int, ...] = (1, 2), blocks: int = 1
) -> DenoisingUNet:
    network = DenoisingUNet(size, width, multipliers, blocks=blocks, attention=8, heads=2)
    torch.manual_seed(0)
    network.reset_parameters()
    return network.eval()


def loosened(module: nn.Module) -> None:
    """Draw all parameters, so that none is 0 or 1."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)


def normalised(features: Tensor, norm: nn.GroupNorm) -> Tensor:
    groups = features.unflatten(1, (norm.num_groups, -1)).flatten(2)
    deviation = (groups.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    normal = ((groups - groups.mean(2, keepdim=True)) / deviation).view_as(features)
    scaled: Tensor = normal * norm.weight[:, None, None] + norm.bias[:, None, None]
    return scaled


def swish(features: Tensor) -> Tensor:
    rectified: Tensor = features * features.sigmoid()
    return rectified


def residual_by_hand(block: Residual, features: Tensor, time: Tensor) -> Tensor:
    def scaled(values: Tensor) -> Tensor:
        if block.scale == 0.5:
            halved: Tensor = values.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))
            return halved
        return values.repeat_interleave(2, 2).repeat_interleave(2, 3) if block.scale == 2 else values

    first, last = block.first, block.last
    change = functional.conv2d(
        scaled(swish(normalised(features, block.before))), first.weight, first.bias, padding=1
    )
    change = change + (time @ block.time.weight.T + block.time.bias)[:, :, None, None]
    change = functional.conv2d(swish(normalised(change, block.between)), last.weight, last.bias, padding=1)
    shortcut = scaled(features)
    if isinstance(block.shortcut, nn.Conv2d):
        shortcut = functional.conv2d(shortcut, block.shortcut.weight, block.shortcut.bias)
    changed: Tensor = shortcut + change
    return changed


def attention_by_hand(block: Attention, features: Tensor) -> Tensor:
    """Head by head and position by position."""
    count, channels, height, width = features.shape
    joint = functional.conv2d(normalised(features, block.norm), block.joint.weight, block.joint.bias)
    queries, keys, values = joint.flatten(2).unflatten(1, (3, block.heads, -1)).unbind(1)
    mixed = torch.zeros_like(queries)
    for image in range(count):
        for head in range(block.heads):
            for position in range(height * width):
                query = queries[image, head, :, position]
                alike = torch.stack([query @ key for key in keys[image, head].T]) / math.sqrt(len(query))
                share = alike.exp() / alike.exp().sum()
                mixed[image, head, :, position] = values[image, head] @ share
    together = mixed.reshape(count, channels, height, width)
    return features + functional.conv2d(together, block.last.weight, block.last.bias)


@pytest.mark.parametrize(("scale", "after"), [(1.0, 8), (1.0, 12), (0.5, 8), (2.0, 8)])
def test_residual_block_is_what_the_formula_says(scale: float, after: int) -> None:
    block = Residual(8, after, 6, scale)
    loosened(block)
    features, time = torch.randn(2, 8, 4, 6), torch.randn(2, 6)
    with torch.no_grad():
        assert torch.allclose(block(features, time), residual_by_hand(block, features, time), atol=1e-5)


def test_attention_is_what_the_formula_says() -> None:
    block = Attention(8, 2)
    loosened(block)
    features = torch.randn(2, 8, 3, 4)
    with torch.no_grad():
        assert torch.allclose(block(features), attention_by_hand(block, features), atol=1e-5)


def test_time_embedding_is_cosines_and_sines() -> None:
    embedded = time_embedding(torch.tensor([0, 7, 999]), 8)
    for row, time in zip(embedded.tolist(), (0, 7, 999), strict=True):
        angles = [time / 10_000 ** (k / 4) for k in range(4)]
        expected = [math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles]
        assert row == pytest.approx(expected, abs=1e-4)


def test_the_network_is_its_blocks_joined_by_skips() -> None:
    """Two resolutions with one block each, written out; attention at the coarse one only."""
    network = drawn()
    loosened(network)
    images, times = torch.randn(2, 3, 16, 16), torch.tensor([3, 500])
    time = network.embed(time_embedding(times, 8))
    down, middle, up = (
        [stage for stage in stages if isinstance(stage, Stage)]
        for stages in (network.down, network.middle, network.up)
    )
    with torch.no_grad():
        start = network.first(images)
        fine = down[0].residual(start, time)
        halved = down[1].residual(fine, time)
        coarse = down[2].attention(down[2].residual(halved, time))
        features = middle[0].attention(middle[0].residual(coarse, time))
        features = middle[1].residual(features, time)
        for stage, skipped in ((up[0], coarse), (up[1], halved)):
            features = stage.attention(stage.residual(torch.cat([features, skipped], 1), time))
        features = up[2].residual(features, time)
        for stage, skipped in ((up[3], fine), (up[4], start)):
            features = stage.residual(torch.cat([features, skipped], 1), time)
        assert torch.allclose(network(images, times), network.last(features), atol=1e-4)
    assert [isinstance(stage.attention, Attention) for stage in down] == [False, False, True]
    assert [isinstance(stage.attention, Attention) for stage in up] == [True, True, False, False, False]


def test_the_network_of_the_paper_has_131_7_million_parameters() -> None:
    with torch.device("meta"):
        network = DenoisingUNet(256, 128, (1, 1, 2, 2, 4, 4), blocks=2, attention=32, heads=4)
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1) == 131.7


def test_it_begins_with_no_noise_and_blocks_that_change_nothing() -> None:
    network = drawn()
    images, times = torch.randn(2, 3, 16, 16), torch.tensor([3, 500])
    with torch.no_grad():
        assert not network(images, times).any()
        features = torch.randn(2, 16, 8, 8)
        time = network.embed(time_embedding(times, 8))
        assert torch.equal(network.middle[0](features, time), features)


def test_the_noise_depends_on_the_time_step_of_each_image_only() -> None:
    network = drawn()
    loosened(network)
    images = torch.randn(1, 3, 16, 16).expand(3, -1, -1, -1)
    with torch.no_grad():
        noise = network(images, torch.tensor([3, 500, 3]))
        alone = network(images[:1], torch.tensor([500]))
    assert torch.allclose(noise[0], noise[2], atol=1e-5)
    assert torch.allclose(noise[1:2], alone, atol=1e-5)
    assert not torch.allclose(noise[0], noise[1], atol=1e-2)


def test_every_parameter_is_drawn_anew_by_the_seed() -> None:
    network = drawn()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 7.0)
    torch.manual_seed(0)
    network.reset_parameters()
    for name, parameter in drawn().named_parameters():
        assert torch.equal(parameter, network.get_parameter(name)), name


def test_a_norm_spans_several_channels() -> None:
    for width, groups in ((8, 2), (32, 8), (128, 32), (256, 32)):
        assert Residual(width, width, 4, 1.0).between.num_groups == groups


def test_it_learns_to_predict_noise() -> None:
    network = drawn(size=4, multipliers=(1,))
    torch.manual_seed(0)
    image = torch.rand(1, 3, 4, 4)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    errors = []
    for _ in range(40):
        noise = torch.randn(8, 3, 4, 4)
        error = (network(image + noise, torch.full((8,), 200)) - noise).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[0] == pytest.approx(1, abs=0.2)
    assert errors[-1] < 0.4
