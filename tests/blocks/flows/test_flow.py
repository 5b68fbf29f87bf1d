import math
from typing import Any, cast

import FrEIA.modules as freia  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_moons
from torch import Tensor, nn

from blemish.blocks.flows.coupling import couple, couple_plainly
from blemish.blocks.flows.flow import CouplingStep, Flow, MapNorm, convolutions


def wake(module: nn.Module, by: float = 0.1) -> None:
    """Give every parameter a value of its own, where flows start as permutations."""
    for parameter in module.parameters():
        with torch.no_grad():
            parameter.add_(by * torch.randn_like(parameter))


def flow_of(channels: int, steps: int, condition: int = 0, kernel: int = 3) -> Flow:
    flow = Flow(
        CouplingStep(channels, convolutions(kernel, 1.0), condition=condition, clamp=2.0)
        for _ in range(steps)
    )
    flow.reset_parameters()
    wake(flow)
    return flow.eval()


def jacobian_log_determinant(flow: Flow, x: Tensor, condition: Tensor | None) -> float:
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v, condition)[0], x)
    return float(torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel())).logabsdet)


@settings(deadline=None, max_examples=25)
@given(
    channels=st.integers(2, 9),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    steps=st.integers(1, 3),
    condition=st.sampled_from([0, 3]),
    seed=st.integers(0, 1000),
)
def test_inverse_undoes_a_flow(
    channels: int, height: int, width: int, steps: int, condition: int, seed: int
) -> None:
    torch.manual_seed(seed)
    flow = flow_of(channels, steps, condition)
    with torch.no_grad():
        for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
            flow.to(dtype)
            x = torch.randn(2, channels, height, width, dtype=dtype)
            code = torch.randn(2, condition, height, width, dtype=dtype) if condition else None
            back = flow.inverse(flow(x, code)[0], code)
            assert float((back - x).abs().max()) <= tolerance * max(1.0, float(x.abs().max()))


@pytest.mark.parametrize("condition", [0, 2])
@pytest.mark.parametrize("channels", [4, 5])
def test_log_determinant_is_that_of_the_jacobian(channels: int, condition: int) -> None:
    torch.manual_seed(1)
    flow = flow_of(channels, 3, condition).double()
    wake(flow, 0.5)  # subnets' outputs count a tenth
    x = torch.randn(1, channels, 3, 2, dtype=torch.float64)
    code = torch.randn(1, condition, 3, 2, dtype=torch.float64) if condition else None
    found = float(flow(x, code)[1].detach())
    assert abs(found) > 0.1
    assert found == pytest.approx(jacobian_log_determinant(flow, x, code), abs=1e-6)


def test_log_determinant_is_summed_per_image() -> None:
    torch.manual_seed(2)
    flow, x = flow_of(6, 2), torch.randn(3, 6, 4, 5)
    with torch.no_grad():
        alone = torch.cat([flow(x[i : i + 1])[1] for i in range(3)])
        assert torch.allclose(flow(x)[1], alone, rtol=1e-4, atol=1e-4)
    assert len(alone.unique()) == 3


def test_condition_changes_scales_and_translations_only() -> None:
    """x_a passes unseen by the condition; x_b moves with it."""
    torch.manual_seed(3)
    flow = flow_of(6, 1, condition=2)
    (step,) = cast("list[CouplingStep]", list(flow.steps))
    x = torch.randn(1, 6, 3, 3)
    with torch.no_grad():
        one, other = (flow(x, torch.full((1, 2, 3, 3), value))[0] for value in (0.0, 1.0))
    same = (one == other).flatten(2).all(2)[0]
    assert torch.equal(same, step.order < 3)


def freia_step(ours: CouplingStep) -> Any:
    """FrEIA's block with the weights of ours."""
    first, _, last = cast("nn.Sequential", ours.subnet)

    def subnet(inputs: int, outputs: int) -> nn.Module:
        theirs = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, padding=1), nn.ReLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        theirs[0].load_state_dict(first.state_dict())
        theirs[2].load_state_dict(last.state_dict())
        return theirs

    channels = len(ours.order)
    block = freia.AllInOneBlock(
        [(channels, 4, 5)], subnet_constructor=subnet, affine_clamping=2.0, global_affine_type="SOFTPLUS"
    )
    with torch.no_grad():
        # theirs scales and moves before it permutes, by a matrix
        block.global_scale.copy_(ours.raw_scale[None, :, None, None])
        block.global_offset.copy_(ours.offset[None, :, None, None])
        block.w_perm.copy_(torch.eye(channels)[ours.order][..., None, None])
        block.w_perm_inv.copy_(block.w_perm.transpose(0, 1))
    return block.eval()


@pytest.mark.parametrize("channels", [6, 7])
def test_a_step_is_freias_with_the_same_weights(channels: int) -> None:
    torch.manual_seed(4)
    flow = flow_of(channels, 1)
    theirs = freia_step(cast("CouplingStep", flow.steps[0]))
    x = torch.randn(2, channels, 4, 5)
    with torch.no_grad():
        (expected,), expected_log = theirs([x])
        y, log = flow(x)
    assert torch.allclose(y, expected, atol=1e-5)
    assert torch.allclose(log, expected_log, atol=1e-4)


def test_a_new_flow_is_a_permutation_with_the_likelihood_of_a_normal_distribution() -> None:
    torch.manual_seed(5)
    flow = Flow(CouplingStep(6, convolutions(3, 1.0)) for _ in range(4))
    flow.reset_parameters()
    x = torch.randn(2, 6, 4, 4)
    z, log = flow.eval()(x)
    expected = -torch.distributions.Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1)
    found = 0.5 * z.square().flatten(1).sum(1) + 0.5 * math.log(2 * math.pi) * x[0].numel() - log
    assert torch.allclose(found, expected, rtol=1e-5)
    assert torch.equal(z.sum(1).argsort(), x.sum(1).argsort()) or torch.allclose(
        z.sum(1), x.sum(1), atol=1e-5
    )


def test_a_flow_learns_two_moons_better_than_a_gaussian() -> None:
    torch.manual_seed(6)
    moons = make_moons(256, noise=0.05, random_state=0)[0].astype(np.float32)
    moons = (moons - moons.mean(0)) / moons.std(0)
    x = torch.from_numpy(moons).T.reshape(1, 2, 16, 16)  # a place for each point: 1 × 1 kernels see but that
    flow = Flow(CouplingStep(2, convolutions(1, 24.0)) for _ in range(4))
    flow.reset_parameters()
    for step in flow.steps:  # two channels that never change places would stay half unlearned
        cast("CouplingStep", step).order.copy_(torch.tensor([1, 0]))
    optimizer = torch.optim.Adam(flow.parameters(), lr=2e-2)
    flow.train()
    for _ in range(100):
        z, log = flow(x)
        loss = (0.5 * z.square().sum() - log.sum()) / 256
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        z, log = flow.eval()(x)
    found = float(0.5 * z.square().sum() - log.sum()) / 256
    gaussian = 1 + 0.5 * float(np.linalg.slogdet(np.cov(moons.T)).logabsdet)  # the best of all Gaussians'
    assert found < gaussian - 0.3


@settings(deadline=None, max_examples=20)
@given(
    channels=st.integers(2, 33),
    places=st.integers(1, 7),
    images=st.integers(1, 3),
    size=st.sampled_from([0.1, 1, 30]),
    raw_type=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_the_compiled_arithmetic_is_that_of_tensors(
    channels: int, places: int, images: int, size: float, raw_type: torch.dtype
) -> None:
    """Values and all derivatives, also where tanh is flat; raw's and its gradient are rounded to raw's type."""
    torch.manual_seed(channels)
    moved = channels // 2
    leaves = [
        torch.randn(images, channels, places, 2),
        size * torch.randn(images, 2 * moved, places, 2),
        0.5 + torch.rand(channels),
        torch.randn(channels),
    ]
    order = torch.randperm(channels)
    kept = channels - moved
    weights = [torch.randn(images, c, places, 2) for c in (channels, kept)] + [torch.randn(images)]
    leaves[1], weights[1] = leaves[1].to(raw_type), weights[1].to(raw_type)
    found = []
    for function, exact in ((couple, False), (couple_plainly, True)):
        inputs = [(leaf.double() if exact else leaf.clone()).requires_grad_() for leaf in leaves]
        x, raw, scale, offset = inputs
        outputs = function(x, raw, scale, offset, order, 1.9)
        into = [weight.double() if exact else weight for weight in weights]
        found.append([*(out.detach() for out in outputs), *torch.autograd.grad(outputs, inputs, into)])
    y, first = found[0][:2]
    assert torch.equal(first, y[:, :kept].to(raw_type))
    for compiled, plain in zip(*found, strict=True):
        rounding = 2**-8 if compiled.dtype == torch.bfloat16 else 1e-4
        assert torch.allclose(
            compiled.double(), plain, rtol=rounding, atol=1e-4 * max(1.0, float(plain.abs().max()))
        )


def test_both_forms_of_a_step_give_the_weights_the_same_gradients() -> None:
    """The first channels' gradient is added in place, which must not be lost or counted twice."""
    torch.manual_seed(7)
    flow, x = flow_of(6, 3), torch.randn(2, 6, 4, 4)
    found = []
    for dtype in (torch.float32, torch.float64):
        flow.to(dtype).zero_grad()
        z, log = flow(x.to(dtype))
        (z.square().sum() - log.sum()).backward()
        found.append([cast("Tensor", parameter.grad).double() for parameter in flow.parameters()])
    for single, double in zip(*found, strict=True):
        assert torch.allclose(single, double, rtol=1e-3, atol=1e-3)


def test_training_in_bfloat16_keeps_the_likelihood() -> None:
    """Only the subnets' convolutions are rounded, to 8 bits: as much as that, the likelihood may move."""
    torch.manual_seed(8)
    flow, x = flow_of(16, 4), torch.randn(4, 16, 8, 8)
    with torch.no_grad():
        z, log = flow(x)
        rounded_z, rounded_log = flow.train()(x)
    assert rounded_z.dtype == torch.float32
    exact, rounded = (
        float((0.5 * a.square().flatten(1).sum(1) - b).mean()) / x[0].numel()
        for a, b in ((z, log), (rounded_z, rounded_log))
    )
    assert rounded == pytest.approx(exact, abs=0.02 * abs(exact))


def test_training_in_bfloat16_keeps_the_gradients() -> None:
    """Each differs from float32's by at most a tenth of its norm: a rounding to 8 bits is 0.4 %, and they add up."""
    torch.manual_seed(11)
    flow, x = Flow(CouplingStep(16, convolutions(3, 1.0)) for _ in range(4)), torch.randn(4, 16, 8, 8)
    flow.reset_parameters()
    wake(flow, by=0.02)  # a steeper flow multiplies the roundings
    found = []
    for training in (False, True):
        flow.train(training).zero_grad()
        leaf = x.clone().requires_grad_()
        z, log = flow(leaf)
        (0.5 * z.square().sum() - log.sum()).backward()
        found.append([cast("Tensor", tensor.grad) for tensor in (leaf, *flow.parameters())])
    for exact, rounded in zip(*found, strict=True):
        assert float((rounded - exact).norm()) < 0.1 * float(exact.norm())


def test_map_norm_normalises_and_counts_its_weight() -> None:
    torch.manual_seed(9)
    x = (5 + 3 * torch.randn(2, 3, 4, 5)).requires_grad_()
    norm = MapNorm()
    assert norm.weight.numel() == 0
    norm.reset_parameters(x.shape[1:], torch.zeros(3), torch.ones(3))
    wake(norm)
    y, log = norm(MapNorm.normalised(x))
    expected = torch.nn.functional.layer_norm(x, (3, 4, 5), norm.weight, norm.bias)
    assert torch.allclose(y, expected, atol=1e-5)
    inputs, into = [x, norm.weight, norm.bias], torch.randn_like(y)
    gradients = (torch.autograd.grad(outputs, inputs, into, retain_graph=True) for outputs in (y, expected))
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert float(log.detach()) == pytest.approx(float(norm.weight.detach().abs().log().sum()))


def test_map_norm_starts_where_channels_are_standard() -> None:
    torch.manual_seed(10)
    x = torch.randn(4, 3, 8, 8) * torch.tensor([0.5, 1.0, 2.0])[:, None, None] + 1
    normalised = MapNorm.normalised(x)
    variance, mean = torch.var_mean(normalised, (0, 2, 3))
    norm = MapNorm()
    norm.reset_parameters(x.shape[1:], mean, variance)
    started_variance, started_mean = torch.var_mean(norm(normalised)[0].detach(), (0, 2, 3))
    assert started_mean.tolist() == pytest.approx([0] * 3, abs=1e-5)
    expected = variance / (variance + 0.01)
    assert started_variance.tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_the_permutation_is_drawn_by_the_seed_and_kept_as_indices() -> None:
    step = CouplingStep(8, convolutions(1, 1.0))
    torch.manual_seed(0)
    step.reset_parameters()
    first = step.order.clone()
    step.reset_parameters()
    assert not torch.equal(first, step.order)
    torch.manual_seed(0)
    step.reset_parameters()
    assert torch.equal(first, step.order)
    assert step.state_dict()["order"].dtype == torch.int64
    assert sorted(first.tolist()) == list(range(8))
