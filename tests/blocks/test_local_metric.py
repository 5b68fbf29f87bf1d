import math

import pytest
import torch
from torch import Tensor, nn

from blemish.blocks import local_metric
from blemish.blocks.local_metric import (
    LocalMetric,
    at,
    attraction,
    contrastive_loss,
    draw,
    repulsion,
    steps_between,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def vectors(*degrees: float) -> Tensor:
    """Unit vectors (2, n) of these angles."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()])


def test_equal_points_attract_each_other_below_a_cosine_of_eight_tenths() -> None:
    assert attraction(torch.tensor([1.0, 0.8, 0.3, -1.0])).tolist() == pytest.approx([0, 0, 0.5**3, 1.8**3])


def test_different_points_repel_each_other_above_a_cosine_of_minus_two_tenths() -> None:
    cosines = torch.tensor([-1.0, -0.2, 0.3, 1.0])
    assert repulsion(cosines, torch.ones(4)).tolist() == pytest.approx([0, 0, 0.5**3, 1.2**3])
    assert repulsion(cosines, torch.tensor([2.0, 2.0, 0.0, 2.0])).tolist() == pytest.approx([0, 0, 0, 2.4**3])


def pair(query: Tensor, reference: Tensor, height: int, width: int) -> Tensor:
    """Maps (2, 1, C, h, w) of a query and a reference with columns (C, h·w)."""
    return torch.stack([query, reference]).view(2, 1, -1, height, width)


def test_points_without_defect_attract_and_those_in_a_defect_repel() -> None:
    """Cosines of the two cells, by hand: cos 60° = 0.5 and cos 0° = 1."""
    pairs = pair(vectors(0, 90), vectors(60, 90), 1, 2)
    weights, defects = torch.ones(1, 1, 2), torch.tensor([[[0.0, 1.0]]])
    loss = contrastive_loss(pairs, pairs, weights, defects, near=None)
    assert float(loss) == pytest.approx(0.3**3 + 1.2**3, rel=1e-4)


def test_cells_that_a_defect_touches_count_neither_as_normal_nor_as_defective() -> None:
    pairs = pair(vectors(0, 90), vectors(60, 90), 1, 2)
    loss = contrastive_loss(pairs, pairs, torch.ones(1, 1, 2), torch.tensor([[[0.0, 0.3]]]), near=None)
    assert float(loss) == pytest.approx(0.3**3, rel=1e-4)


def test_far_points_repel_by_the_squared_distance_of_their_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a row of four cells, only the pairs (0, 2), (0, 3), (1, 3) and back are more than √2 cells apart.

    The last cell has a defect, so 16 more pairs repel: that cell and its counterpart in the reference.
    """
    degrees = [0.0, 40.0, 80.0, 100.0]
    frozen = torch.tensor([[0.0, 1.0, 3.0, 7.0]])
    pairs = pair(vectors(*degrees), vectors(*degrees), 1, 4)
    features = pair(frozen, frozen, 1, 4)
    here, there = (torch.tensor([range(16)]) // 4, torch.tensor([range(16)]) % 4)
    drawn = iter([here, here.new_full((1, 16), 3), here, there])  # same, defective, here, other
    monkeypatch.setattr(
        local_metric, "draw", lambda weights: (next(drawn), weights.flatten(1).sum(1)[:, None] > 0)
    )
    defects = torch.tensor([[[0.0, 0.0, 0.0, 1.0]]])
    loss = contrastive_loss(pairs, features, torch.ones(1, 1, 4), defects, near=math.sqrt(2))
    places = [(i, j) for i in range(4) for j in range(4) if abs(i - j) > 1]
    squared = {(i, j): float((frozen[0, i] - frozen[0, j]) ** 2) for i, j in places}
    mean = sum(squared.values()) / 6
    repelled = [
        (max(0.0, math.cos(math.radians(degrees[i] - degrees[j])) + 0.2) * squared[i, j] / mean) ** 3
        for i, j in places
    ]
    assert float(loss) == pytest.approx((sum(repelled) + 16 * 1.2**3) / (6 + 16), rel=1e-4)


def test_images_without_points_of_a_kind_do_not_count() -> None:
    pairs = pair(vectors(0, 0), vectors(180, 180), 1, 2)
    nothing = torch.zeros(1, 1, 2)
    assert float(contrastive_loss(pairs, pairs, nothing, nothing, near=1.5)) == 0


def test_points_are_drawn_by_their_weights() -> None:
    weights = torch.tensor([[[0.0, 1.0], [3.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    cells, has_any = draw(weights.repeat(50, 1, 1))
    assert has_any[:, 0].tolist() == [True, False] * 50
    drawn = cells[::2]
    assert set(drawn.flatten().tolist()) == {1, 2}
    assert float((drawn == 2).double().mean()) == pytest.approx(0.75, abs=0.02)


def test_cells_are_numbered_row_by_row() -> None:
    maps = torch.arange(24.0).view(1, 2, 3, 4)
    assert at(maps, torch.tensor([[5, 11]])).tolist() == [[[5, 11], [17, 23]]]
    assert steps_between(torch.tensor([0, 5]), torch.tensor([11, 2]), 4).tolist() == [4 + 9, 1 + 1]


def test_the_metric_gives_unit_vectors_on_the_grid_of_the_features() -> None:
    metric = LocalMetric(5, 12).eval()
    metric.reset_parameters()
    found = metric(torch.randn(2, 5, 6, 7))
    assert found.shape == (2, 12, 6, 7)
    assert torch.allclose(found.square().sum(1), torch.ones(2, 6, 7), atol=1e-5)


def test_the_papers_metric_has_the_papers_widths() -> None:
    metric = LocalMetric(256, 384)
    shapes = [tuple(p.shape[:2]) for p in metric.parameters() if p.ndim == 4]
    assert shapes == [(192, 256), (64, 192), (48, 192), (64, 48), (64, 192), (64, 192), (384, 256)]
    assert sum(isinstance(module, nn.BatchNorm2d) for module in metric.modules()) == 6
