from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from blemish.features.backbone import Backbone
from blemish.methods.fastflow import FastFlow
from blemish.testing.parts import defective_part, normal_parts

RANDOM = "resnet18:random"


def learned(images: Tensor, epochs: int, **arguments: Any) -> tuple[FastFlow, list[float]]:
    """A method trained by calling its hooks, and the loss of each epoch."""
    torch.manual_seed(0)
    method = FastFlow(**{"backbone": RANDOM, "layers": (1, 2), "flow_steps": 2, **arguments}).eval()
    with torch.no_grad():
        method.collect([images])
        prepared = method.prepare(images)
    optimizer = method.optimizers()
    losses = []
    for _ in range(epochs):
        with torch.enable_grad():
            loss = method.train().training_loss(*prepared)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    method.learned = torch.ones(1)
    return method.eval(), losses


PARTS = torch.from_numpy(normal_parts(6))
DEFECTIVE = torch.from_numpy(defective_part(1.0))[None]


@torch.no_grad()
def latent(method: FastFlow, images: Tensor) -> list[Tensor]:
    """z of every layer, computed from the parts of the method."""
    outputs = []
    for norm, flow, x in zip(method.norms, method.flows, Backbone(RANDOM, (1, 2))(images), strict=True):
        normed = functional.layer_norm(x, x.shape[1:], norm.weight, norm.bias)  # type: ignore[arg-type]
        outputs.append(flow(normed)[0])
    return outputs


def enlarged_mean(grids: list[Tensor]) -> Tensor:
    full = [functional.interpolate(g, (64, 96), mode="bilinear", align_corners=False) for g in grids]
    return torch.cat(full, 1).mean(1)


@torch.no_grad()
def test_the_map_is_minus_log_of_the_layers_mean_p() -> None:
    method, _ = learned(PARTS, 2)
    grids = [torch.exp(-0.5 * z.square().mean(1, keepdim=True)) for z in latent(method, DEFECTIVE)]
    expected = -enlarged_mean(grids).log()
    score, anomaly_map = method(DEFECTIVE)
    assert torch.allclose(anomaly_map, expected, rtol=1e-3)
    assert float(score) == float(anomaly_map.max())


@torch.no_grad()
def test_the_map_of_the_public_code_is_minus_p() -> None:
    method, _ = learned(PARTS, 2, map="exp")
    grids = [-torch.exp(-0.5 * z.square().mean(1, keepdim=True)) for z in latent(method, DEFECTIVE)]
    expected = enlarged_mean(grids)
    assert torch.allclose(method(DEFECTIVE).anomaly_map, expected, rtol=1e-3, atol=1e-5)


def test_the_first_loss_is_that_of_each_channels_own_normal_distribution() -> None:
    """Flows start as permutations, so the loss is that of independent normal distributions of the channels."""
    _, losses = learned(PARTS, 1)
    total, numbers = 0.0, 0
    for x in Backbone(RANDOM, (1, 2))(PARTS):
        normed = functional.layer_norm(x, x.shape[1:])
        variance, mean = torch.var_mean(normed, (0, 2, 3), correction=0)
        width = (variance + 0.01).sqrt()
        z = (normed - mean[:, None, None]) / width[:, None, None]
        total += float((0.5 * z.square() + width.log()[:, None, None]).mean(0).sum())
        numbers += x[0].numel()
    assert losses[0] == pytest.approx(total / numbers, rel=1e-3)


def test_the_loss_includes_the_weights_of_the_norm() -> None:
    """Otherwise scaling all values down would lower the loss."""
    method, _ = learned(PARTS, 0)
    with torch.no_grad():
        prepared = method.prepare(PARTS)
        for norm in method.norms:
            norm.weight.fill_(0.5)  # type: ignore[operator]
            norm.bias.fill_(0)  # type: ignore[operator]
        found = float(method.training_loss(*prepared))
    assert found == pytest.approx(0.5 * 0.25 + 0.6931, rel=1e-3)


def test_training_lowers_the_loss_and_scores_grow_with_the_defect() -> None:
    method, losses = learned(PARTS, 25)
    assert losses[-1] < losses[0] - 0.2
    with torch.no_grad():
        strengths = torch.stack([torch.from_numpy(defective_part(s)) for s in (0.0, 0.5, 1.0)])
        scores = method(strengths).score
    assert scores[0] < scores[1] < scores[2]


def test_all_parameters_are_trained_and_permutations_are_saved() -> None:
    method, _ = learned(PARTS, 1)
    state = method.state_dict()
    again = FastFlow(**method.arguments)
    again.load_learned(state)
    with torch.no_grad():
        assert torch.equal(again.eval()(DEFECTIVE).anomaly_map, method(DEFECTIVE).anomaly_map)
    assert sum(name.endswith(".order") for name in state) == 4
    moved = {id(p) for group in method.optimizers().param_groups for p in group["params"]}
    assert moved == {id(p) for p in method.parameters() if p.requires_grad}


def test_kernels_alternate() -> None:
    method = FastFlow(backbone=RANDOM, layers=(1,), flow_steps=3, kernels=(3, 1))
    sides = [p.shape[-1] for name, p in method.flows.named_parameters() if name.endswith("subnet.0.weight")]
    assert sides == [3, 1, 3]


def test_weight_decay_is_far_below_the_gradient_of_the_likelihood() -> None:
    """Both are divided by the number of dimensions; otherwise the decay shrinks norms and scales."""
    method, _ = learned(PARTS, 1)
    with torch.no_grad():
        prepared = method.prepare(PARTS)
    (group,) = method.optimizers().param_groups
    method.train().training_loss(*prepared).backward()
    assert group["weight_decay"] > 0
    for name, parameter in [*method.norms.named_parameters(), *method.flows.named_parameters()]:
        if "weight" in name or "raw_scale" in name:
            assert parameter.grad is not None
            decay = group["weight_decay"] * float(parameter.detach().norm())
            assert decay < 0.01 * float(parameter.grad.norm()), name


def test_a_step_of_adam_does_not_depend_on_the_number_of_dimensions() -> None:
    """Dividing the loss by D changes no step if weight decay and epsilon are divided, too."""
    method, _ = learned(PARTS, 1)
    dimensions = sum(p.numel() for n, p in method.norms.named_parameters() if n.endswith("weight"))
    (group,) = method.optimizers().param_groups
    assert group["weight_decay"] * dimensions == pytest.approx(method.weight_decay)
    assert group["eps"] * dimensions == pytest.approx(1e-8)


def test_presets_follow_the_public_code() -> None:
    presets = FastFlow.presets
    assert presets["resnet18"].arguments["kernels"] == (3,)
    assert presets["vit"].arguments["layers"] == (8,)
