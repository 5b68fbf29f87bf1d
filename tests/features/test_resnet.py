"""The folded ResNets against plain, un-folded arithmetic in torchvision's names."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from blemish.features.resnet import DESIGNS, ResNet, fold_batch_norms, state_dict_shapes

TRUNK_PARAMETERS = {  # torchvision's published totals minus the classifier
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet50_caffe": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
    "resnet152": 60_192_808 - 2_049_000,
    "wide_resnet50_2": 68_883_240 - 2_049_000,
    "wide_resnet101_2": 126_886_696 - 2_049_000,
}
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3), "resnet50_caffe": (3, 4, 6, 3)}


class Reference:
    """Runs a ResNet step by step and draws each tensor of its state dict when it is first needed."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.generator = torch.Generator().manual_seed(seed)
        self.state: dict[str, Tensor] = {}

    def draw(self, key: str, *shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
        return self.state.setdefault(key, torch.randn(shape, generator=self.generator) * scale + shift)

    def conv_norm(self, x: Tensor, conv: str, norm: str, width: int, kernel: int, stride: int) -> Tensor:
        inputs = x.shape[1]
        weight = self.draw(
            f"{conv}.weight", width, inputs, kernel, kernel, scale=(inputs * kernel**2) ** -0.5
        )
        y = functional.conv2d(x, weight, stride=stride, padding=kernel // 2)
        return functional.batch_norm(
            y,
            running_mean=self.draw(f"{norm}.running_mean", width, scale=0.5),
            running_var=self.draw(f"{norm}.running_var", width).abs_().add_(0.2),
            weight=self.draw(f"{norm}.weight", width, scale=0.3, shift=0.8),
            bias=self.draw(f"{norm}.bias", width, scale=0.3),
            training=False,
            eps=1e-5,
        )

    def block(self, x: Tensor, at: str, width: int, stride: int) -> Tensor:
        if self.name == "resnet18":
            steps, outputs = [(width, 3, stride), (width, 3, 1)], width
        else:
            first, second = (stride, 1) if self.name == "resnet50_caffe" else (1, stride)
            steps, outputs = [(width, 1, first), (width, 3, second), (4 * width, 1, 1)], 4 * width
        y = x
        for i, (channels, kernel, step) in enumerate(steps, start=1):
            y = self.conv_norm(y, f"{at}.conv{i}", f"{at}.bn{i}", channels, kernel, step)
            y = functional.relu(y) if i < len(steps) else y
        if stride != 1 or x.shape[1] != outputs:
            x = self.conv_norm(x, f"{at}.downsample.0", f"{at}.downsample.1", outputs, 1, stride)
        return functional.relu(x + y)

    def __call__(self, images: Tensor) -> dict[int, Tensor]:
        x = functional.relu(self.conv_norm(images, "conv1", "bn1", 64, 7, 2))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        maps = {}
        for k, count in enumerate(BLOCKS[self.name], start=1):
            for i in range(count):
                x = self.block(x, f"layer{k}.{i}", 64 * 2 ** (k - 1), 2 if k > 1 and i == 0 else 1)
            maps[k] = x
        return maps


def meta_resnet(name: str, last_layer: int) -> ResNet:
    with torch.device("meta"):
        return ResNet(DESIGNS[name], last_layer)


@pytest.mark.parametrize("name", BLOCKS)
def test_folded_network_equals_plain_arithmetic(name: str) -> None:
    reference = Reference(name, seed=1)
    images = torch.randn(2, 3, 64, 40, generator=reference.generator)
    expected = reference(images)

    network = ResNet(DESIGNS[name], 4)
    network.load_state_dict(fold_batch_norms(reference.state))
    with torch.no_grad():
        maps = network(images)

    assert list(maps) == [1, 2, 3, 4]
    for k, found in maps.items():
        assert expected[k].std() > 0.05  # the comparison is not one of zeros
        assert (found - expected[k]).abs().max() < 1e-4


@pytest.mark.parametrize("name", BLOCKS)
def test_shapes_asked_of_a_file_are_those_of_a_torchvision_state_dict(name: str) -> None:
    reference = Reference(name, seed=0)
    reference(torch.zeros(1, 3, 32, 32))
    expected = {key: tuple(tensor.shape) for key, tensor in reference.state.items()}
    assert state_dict_shapes(meta_resnet(name, 4)) == expected
    until_2 = {key: shape for key, shape in expected.items() if not key.startswith(("layer3", "layer4"))}
    assert state_dict_shapes(meta_resnet(name, 2)) == until_2


def test_folding_works_in_float32_and_leaves_out_the_classifier() -> None:
    state = {
        "conv1.weight": torch.full((1, 1, 1, 1), 2.0, dtype=torch.float16),
        "bn1.weight": torch.tensor([3.0]),
        "bn1.bias": torch.tensor([5.0]),
        "bn1.running_mean": torch.tensor([7.0]),
        "bn1.running_var": torch.tensor([4.0 - 1e-5]),
        "bn1.num_batches_tracked": torch.tensor(9),
        "fc.weight": torch.ones(2, 2),
        "fc.bias": torch.ones(2),
    }
    folded = fold_batch_norms(state)  # y = 3 · (2x − 7) / 2 + 5
    assert set(folded) == {"conv1.weight", "conv1.bias"}
    assert {tensor.dtype for tensor in folded.values()} == {torch.float32}
    assert folded["conv1.weight"].item() == pytest.approx(3.0)
    assert folded["conv1.bias"].item() == pytest.approx(-5.5)


@pytest.mark.parametrize("last_layer", [1, 2, 3, 4])
@pytest.mark.parametrize("name", DESIGNS)
def test_channels_and_strides_of_every_design(name: str, last_layer: int) -> None:
    network = meta_resnet(name, last_layer)
    maps = network(torch.empty(1, 3, 64, 96, device="meta"))
    first = 64 if name in ("resnet18", "resnet34") else 256
    expected = {
        k: (1, first * 2 ** (k - 1), 64 // 2 ** (k + 1), 96 // 2 ** (k + 1)) for k in range(1, last_layer + 1)
    }
    assert {k: tuple(found.shape) for k, found in maps.items()} == expected
    assert network.channels == {k: shape[1] for k, shape in expected.items()}


@pytest.mark.parametrize("name", DESIGNS)
def test_parameter_count_is_the_published_one(name: str) -> None:
    state = meta_resnet(name, 4).state_dict()
    biases = sum(tensor.numel() for key, tensor in state.items() if key.endswith(".bias"))
    # a folded bias stands for two parameters of a batch norm
    assert sum(tensor.numel() for tensor in state.values()) + biases == TRUNK_PARAMETERS[name]
