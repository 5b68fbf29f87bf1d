from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.flows.positional_encoding import positional_encoding
from blemish.errors import MethodError
from blemish.features.backbone import Backbone
from blemish.methods.msflow import MSFlow
from blemish.testing.parts import defective_part, normal_parts

RANDOM = "resnet18:random"
PARTS = torch.from_numpy(normal_parts(6))
DEFECTIVE = torch.from_numpy(defective_part(1.0))[None]


def learned(epochs: int, **arguments: Any) -> tuple[MSFlow, list[float]]:
    """A method trained by calling its hooks, and the loss of each epoch."""
    torch.manual_seed(0)
    method = MSFlow(
        **{"backbone": RANDOM, "layers": (1, 2), "flow_steps": (1, 2), "learning_rate": 1e-3, **arguments}
    ).eval()
    with torch.no_grad():
        method.collect([PARTS])
        prepared = method.prepare(PARTS)
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


@torch.no_grad()
def negative_log_p(method: MSFlow, images: Tensor) -> list[Tensor]:
    """−log p of each cell of each layer (N, h, w), computed from the parts of the method."""
    maps = []
    for flow, x in zip(method.flows, Backbone(RANDOM, (1, 2))(images), strict=True):
        pooled = functional.avg_pool2d(x, 3, 2, 1)
        code = positional_encoding(64, pooled.shape[2], pooled.shape[3], like=x).expand(len(x), -1, -1, -1)
        maps.append(flow(pooled, code)[0])
    return [0.5 * z.square().mean(1) for z in method.fusion(maps)[0]]


def enlarged(grid: Tensor) -> Tensor:
    """Bilinear to 64 × 96 between the cells' centres, by hand."""
    rows = ((torch.arange(64) + 0.5) * grid.shape[1] / 64 - 0.5).clamp(0, grid.shape[1] - 1)
    columns = ((torch.arange(96) + 0.5) * grid.shape[2] / 96 - 0.5).clamp(0, grid.shape[2] - 1)
    top, left = rows.long().clamp_max(grid.shape[1] - 2), columns.long().clamp_max(grid.shape[2] - 2)
    down, right = (rows - top)[:, None], columns - left
    upper = grid[:, top][:, :, left] * (1 - right) + grid[:, top][:, :, left + 1] * right
    lower = grid[:, top + 1][:, :, left] * (1 - right) + grid[:, top + 1][:, :, left + 1] * right
    return upper * (1 - down) + lower * down


def top_mean(anomaly_map: Tensor) -> list[float]:
    """Mean of the highest 3 % of the pixels."""
    count = int(0.03 * 64 * 96)
    return [float(pixels.flatten().sort(descending=True).values[:count].mean()) for pixels in anomaly_map]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["nll", "mul", "add"])
def test_maps_and_scores_equal_the_formulas(kind: str) -> None:
    method, _ = learned(3, map=kind)
    images = torch.cat([PARTS[:1], DEFECTIVE])
    grids = negative_log_p(method, images)
    summed = sum(enlarged(grid) for grid in grids)
    assert isinstance(summed, Tensor)
    log_p = -summed
    product = torch.stack([(one - one.max()).exp() for one in log_p])
    mul = torch.stack([one.max() - one for one in product])
    added = sum(enlarged(torch.stack([(one.min() - one).exp() for one in grid])) for grid in grids)
    assert isinstance(added, Tensor)
    add = torch.stack([one.max() - one for one in added])
    likelihood = sum(enlarged((-grid).exp()) for grid in grids)
    assert isinstance(likelihood, Tensor)
    nll = -(likelihood / 2).log()
    expected = {"nll": nll, "mul": mul, "add": add}[kind]
    score, anomaly_map = method(images)
    assert torch.allclose(anomaly_map, expected, rtol=1e-3, atol=1e-4)
    assert score.tolist() == pytest.approx(top_mean(nll if kind == "nll" else mul), rel=1e-3, abs=1e-4)


def test_the_first_loss_is_half_the_squares_of_the_pooled_features() -> None:
    _, losses = learned(1)
    with torch.no_grad():
        maps = [functional.avg_pool2d(x, 3, 2, 1) for x in Backbone(RANDOM, (1, 2))(PARTS)]
    expected = sum(float(0.5 * x.square().sum()) for x in maps) / len(PARTS)
    assert losses[0] == pytest.approx(expected, rel=1e-3)


def test_training_lowers_the_loss_and_scores_grow_with_the_defect() -> None:
    method, losses = learned(25)
    assert losses[-1] < losses[0] - 0.5 * abs(losses[0])
    with torch.no_grad():
        strengths = torch.stack([torch.from_numpy(defective_part(s)) for s in (0.0, 0.5, 1.0)])
        scores = method(strengths).score
    assert scores[0] < scores[1] < scores[2]


def test_flows_depend_on_the_position() -> None:
    """Equal cells, away from the zero padding at the borders, differ only by their positional encoding."""
    method, _ = learned(5)
    flat = torch.ones(1, 64, 12, 12)
    code = positional_encoding(64, 12, 12, like=flat)
    with torch.no_grad():
        with_code = method.flows[0](flat, code)[0][0, :, 4:8, 4:8].flatten(1)
        without = method.flows[0](flat, torch.zeros_like(code))[0][0, :, 4:8, 4:8].flatten(1)
    assert float(without.std(1).max()) < 1e-5
    assert float(with_code.std(1).max()) > 1e-3


def test_the_learning_rate_warms_up_and_decays_twice() -> None:
    method = MSFlow(backbone=RANDOM)
    factors = [method.learning_rate_factor(done) for done in (0.0, 0.06, 0.12, 0.69, 0.7, 0.9, 0.99)]
    assert factors == pytest.approx([0.1, 0.55, 1, 1, 0.33, 0.1089, 0.1089])
    assert method.clip_norm == 2


def test_with_fewer_layers_the_first_depths_are_unused() -> None:
    def depths(layers: tuple[int, ...]) -> list[int]:
        return [len(flow.steps) for flow in MSFlow(backbone=RANDOM, layers=layers).flows]  # type: ignore[arg-type]

    assert depths((1, 2, 3)) == [2, 5, 8]
    assert depths((2, 3)) == [5, 8]
    assert depths((2,)) == [8]


def test_a_saved_state_loads_and_all_parameters_are_trained() -> None:
    method, _ = learned(1)
    again = MSFlow(**method.arguments)
    again.load_learned(method.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(DEFECTIVE).anomaly_map, method(DEFECTIVE).anomaly_map)
    moved = {id(p) for group in method.optimizers().param_groups for p in group["params"]}
    assert moved == {id(p) for p in method.parameters() if p.requires_grad}


def test_too_few_numbers_of_steps_are_refused() -> None:
    with pytest.raises(
        MethodError, match=r"a number for each of the 2 layers, got \(5,\)\. The default is \(2, 5, 8\)"
    ):
        MSFlow(backbone="compact:random", flow_steps=(5,))
