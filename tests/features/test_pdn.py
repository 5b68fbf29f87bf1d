"""The patch description network against one written down from the formula."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from blemish.errors import MethodError, WeightsError
from blemish.features.pdn import DESIGNS, PDN, FrozenPDN, grid_size, init_kaiming
from blemish.features.weights import without_pretrained


def written_down(name: str, outputs: int) -> nn.Sequential:
    """The paper's tables 5 and 6, layer by layer."""
    if name == "pdn_small":
        return nn.Sequential(
            nn.Conv2d(3, 128, 4),
            nn.ReLU(),
            nn.AvgPool2d(2, 2),
            nn.Conv2d(128, 256, 4),
            nn.ReLU(),
            nn.AvgPool2d(2, 2),
            nn.Conv2d(256, 256, 3),
            nn.ReLU(),
            nn.Conv2d(256, outputs, 4),
        )
    return nn.Sequential(
        nn.Conv2d(3, 256, 4),
        nn.ReLU(),
        nn.AvgPool2d(2, 2),
        nn.Conv2d(256, 512, 4),
        nn.ReLU(),
        nn.AvgPool2d(2, 2),
        nn.Conv2d(512, 512, 1),
        nn.ReLU(),
        nn.Conv2d(512, 512, 3),
        nn.ReLU(),
        nn.Conv2d(512, outputs, 4),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 1),
    )


@pytest.mark.parametrize("name", DESIGNS)
@torch.no_grad()
def test_forward_equals_the_formula(name: str) -> None:
    torch.manual_seed(0)
    network, formula = PDN(name, 24), written_down(name, 24)
    pairs = zip(network.parameters(), formula.parameters(), strict=True)
    for ours, other in pairs:
        ours.copy_(other)
    images = torch.randn(2, 3, 44, 53)
    assert torch.allclose(network(images), formula(images), atol=1e-6)


@pytest.mark.parametrize("size", [(36, 36), (64, 96), (37, 58), (100, 43)])
@torch.no_grad()
def test_grid_size_is_that_of_the_output(size: tuple[int, int]) -> None:
    network = PDN("pdn_small", 2)
    assert tuple(network(torch.zeros(1, 3, *size)).shape[2:]) == grid_size(size)


def test_256_pixels_give_56_cells() -> None:
    assert grid_size((256, 256)) == (56, 56)


@torch.no_grad()
def test_a_cell_sees_33_pixels_and_no_more() -> None:
    network = PDN("pdn_small", 3)
    init_kaiming(network, torch.Generator().manual_seed(0))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = network(images)[0, :, 2, 3]  # sees rows 8 to 40 and columns 12 to 44
    outside = images.clone()
    outside[:, :, :8], outside[:, :, 41:] = 9, 9
    outside[..., :12], outside[..., 45:] = 9, 9
    assert torch.allclose(network(outside)[0, :, 2, 3], before, atol=1e-5)
    for row, column in ((8, 12), (40, 44)):
        corner = images.clone()
        corner[:, :, row, column] += 9
        assert not torch.allclose(network(corner)[0, :, 2, 3], before, atol=1e-5)


@torch.no_grad()
def test_part_computes_some_of_the_outputs() -> None:
    network = PDN("pdn_small", 12)
    images = torch.randn(1, 3, 40, 40)
    whole, part = network(images), network.part(network.trunk(images), 4, 5)
    assert torch.allclose(part, whole[:, 4:9], atol=1e-6)


@pytest.mark.parametrize("size", [(35, 64), (64, 12)])
def test_images_without_a_cell_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(
        MethodError, match=rf"Images of {size[0]} × {size[1]} pixels are too small for a PDN: .* 36"
    ):
        grid_size(size)


def test_a_frozen_network_has_no_training_mode_and_no_gradient() -> None:
    frozen = FrozenPDN("pdn_small:random").train()
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


@torch.no_grad()
def test_a_frozen_network_normalises_images_as_on_imagenet() -> None:
    frozen, images = FrozenPDN("pdn_small:random"), torch.rand(2, 3, 40, 44)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    pixels = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
    assert torch.equal(frozen(images), frozen.network(pixels))
    assert {"normalise.mean", "normalise.std"} < set(frozen.state_dict())


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second = FrozenPDN("pdn_small:random"), FrozenPDN("pdn_small:random")
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_weights_of_ones_own_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(tmp_path))
    own = PDN("pdn_small")
    save_file(
        {key: value.half() for key, value in own.state_dict().items()}, tmp_path / "pdn_small.safetensors"
    )
    with without_pretrained():
        assert not torch.equal(FrozenPDN("pdn_small").network.head.weight, own.head.weight.half().float())
    assert torch.equal(FrozenPDN("pdn_small").network.head.weight, own.head.weight.half().float())


def test_absent_weights_are_an_error_that_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLEMISH_WEIGHTS", raising=False)
    with pytest.raises(
        WeightsError, match=r"pdn_medium\.safetensors is not in .* Put the file into one of these"
    ):
        FrozenPDN("pdn_medium")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(
        MethodError, match=r"No PDN is called 'resnet18'\. Choose one of: pdn_small, pdn_medium;"
    ):
        FrozenPDN("resnet18")
