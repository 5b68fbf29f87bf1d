import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from blemish.blocks.flows.fusion_flow import ChannelNorm, FusionFlow, normed_convolutions

SHAPES = [(4, 4, 4), (5, 2, 2), (6, 1, 1)]


def fusion(seed: int = 0) -> FusionFlow:
    torch.manual_seed(seed)
    flow = FusionFlow([shape[0] for shape in SHAPES])
    flow.reset_parameters()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return flow.double()


def pyramid(images: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, *shape, dtype=torch.float64, generator=generator) for shape in SHAPES]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), images=st.integers(1, 3))
def test_inverse_undoes_the_fusion(seed: int, images: int) -> None:
    flow, maps = fusion(seed), pyramid(images, seed)
    with torch.no_grad():
        back = flow.inverse(flow(maps)[0])
    assert max(float((a - b).abs().max()) for a, b in zip(back, maps, strict=True)) < 1e-10


def test_log_determinant_is_that_of_the_jacobian_over_all_scales() -> None:
    flow, maps = fusion(), pyramid(1, 1)
    sizes = [x.numel() for x in maps]

    def flat(values: Tensor) -> Tensor:
        parts = [part.view(x.shape) for part, x in zip(values.split(sizes), maps, strict=True)]
        return torch.cat([y.flatten() for y in flow(parts)[0]])

    joined = torch.cat([x.flatten() for x in maps])
    jacobian = torch.autograd.functional.jacobian(flat, joined)
    expected = float(torch.linalg.slogdet(jacobian).logabsdet)
    assert abs(expected) > 0.1
    assert float(flow(maps)[1].detach()) == pytest.approx(expected, abs=1e-6)
    across = jacobian[: sizes[0], sizes[0] :]
    assert float(across.abs().max()) > 1e-3, "the scales do not see one another"


def test_a_new_fusion_only_permutes() -> None:
    torch.manual_seed(3)
    flow = FusionFlow([4, 6])
    flow.reset_parameters()
    maps = [torch.randn(2, 4, 4, 4), torch.randn(2, 6, 2, 2)]
    with torch.no_grad():
        moved, log = flow(maps)
    assert torch.equal(moved[0], maps[0][:, flow.get_buffer("order0")])
    assert torch.equal(moved[1], maps[1][:, flow.get_buffer("order1")])
    assert log.tolist() == [0, 0]


def test_the_clamp_bounds_what_a_number_is_multiplied_with() -> None:
    flow = FusionFlow([4, 4], clamp=1.9)
    flow.reset_parameters()
    with torch.no_grad():
        flow.from_first.heads[0].bias.fill_(1e6)  # type: ignore[operator]
        _, log = flow([torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 1, 1)])
    assert float(log) <= 2 * 4 * 1.9 * 1.0001  # two channels at four places
    assert float(log) > 2 * 4 * 1.8


@torch.no_grad()
def test_heads_see_each_scale_plus_the_rectified_output_of_the_cross_scale_convolutions() -> None:
    """The authors' network, computed with torch's functions from the same weights."""
    part = fusion(5).from_first
    maps = [x[:, : (x.shape[1] + 1) // 2] for x in pyramid(2, 5)]
    weights = part.state_dict()

    def convolved(x: Tensor, name: str) -> Tensor:
        return functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    pooled = torch.cat([functional.adaptive_avg_pool2d(x, (1, 1)) for x in maps], 1)
    hidden = convolved(pooled, "joint.0").permute(0, 2, 3, 1)
    normed = (
        functional.layer_norm(hidden, hidden.shape[3:]) * weights["joint.1.weight"] + weights["joint.1.bias"]
    )
    rectified = normed.permute(0, 3, 1, 2).clamp_min(0)
    shared = convolved(rectified, "joint.3").clamp_min(0).split([2, 3, 3], 1)
    for i, found in enumerate(part(maps)):
        expected = convolved(maps[i] + shared[i].expand_as(maps[i]), f"heads.{i}")
        torch.testing.assert_close(found, expected)


def test_normalisation_sees_one_cell_only() -> None:
    torch.manual_seed(4)
    x = torch.randn(1, 6, 3, 3)
    changed = x.clone()
    changed[0, :, 0, 0] += 100 * torch.randn(6)
    norm = ChannelNorm(6)
    assert torch.equal(norm(x)[..., 1:, 1:], norm(changed)[..., 1:, 1:])
    expected = torch.nn.functional.layer_norm(x[0, :, 1, 2], (6,))
    assert torch.allclose(norm(x)[0, :, 1, 2], expected, atol=1e-6)


def test_a_subnet_keeps_as_many_channels_as_come_in() -> None:
    shapes = [tuple(p.shape) for p in normed_convolutions(5, 8).parameters()]
    assert shapes == [(5, 5, 3, 3), (5,), (5,), (5,), (8, 5, 3, 3), (8,)]
