"""Each check of the contract fails on a method that is wrong in one thing."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.padding import mask_grid, split_padding
from blemish.errors import ModelError
from blemish.methods.base import Method
from blemish.testing import CHECKS, check_method
from blemish.types import Prediction
from tiny_product import Average


class Untrue(Average):
    """`Average` with room for one fault."""

    def grid(self, filled: Tensor, visible: Tensor) -> Tensor:
        return mask_grid((filled - self.average).abs().mean(1), visible)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        anomaly_map = self.grid(*split_padding(images))
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)


class StoresAnotherValue(Untrue):
    def build(self) -> None:
        super().build()
        self.gain += 1


class LooksAtLabels(Untrue):
    def collect(self, batches: Iterable[Tensor], labels: Any = None) -> None:
        super().collect(batches)


class ScoresUnlearned(Untrue):
    @property
    def has_learned(self) -> bool:
        return True

    def build(self) -> None:
        super().build()
        self.average = torch.zeros(1)


class DrawsInTheConstructor(Untrue):
    def build(self) -> None:
        super().build()
        self.noise = nn.Buffer(torch.rand(1))


class HalfTheMap(Untrue):
    def grid(self, filled: Tensor, visible: Tensor) -> Tensor:
        return super().grid(filled, visible)[:, ::2, ::2]


class FallsWithTheDefect(Untrue):
    def forward(self, images: Tensor) -> Prediction[Tensor]:
        _, anomaly_map = super().forward(images)
        return Prediction(-anomaly_map.flatten(1).amax(1), anomaly_map)


class MapTurnedRound(Untrue):
    def forward(self, images: Tensor) -> Prediction[Tensor]:
        score, anomaly_map = super().forward(images)
        return Prediction(score, score[:, None, None] - anomaly_map)


class NormalisesByTheBatch(Untrue):
    def grid(self, filled: Tensor, visible: Tensor) -> Tensor:
        grid = super().grid(filled, visible)
        return grid / grid.mean()


class LooksAtTheNeighbour(Untrue):
    def grid(self, filled: Tensor, visible: Tensor) -> Tensor:
        grid = super().grid(filled, visible)
        return torch.maximum(grid, grid.roll(1, 0))


class DrawsWhileScoring(Untrue):
    def grid(self, filled: Tensor, visible: Tensor) -> Tensor:
        return super().grid(filled, visible) * (1 + 1e-3 * torch.rand(1))


class RemembersImages(Untrue):
    def grid(self, filled: Tensor, visible: Tensor) -> Tensor:
        grid = super().grid(filled, visible)
        self.average.add_(1e-3 * filled.mean(0))
        return grid


class LetsPaddingWin(Untrue):
    def grid(self, filled: Tensor, visible: Tensor) -> Tensor:
        return (filled * visible - 3 * ~visible - self.average).abs().mean(1)


class LeavesNaN(Untrue):
    def grid(self, filled: Tensor, visible: Tensor) -> Tensor:
        return torch.where(visible[:, 0], super().grid(filled, visible), torch.nan)


class NeedsWholeCells(Untrue):
    def grid(self, filled: Tensor, visible: Tensor) -> Tensor:
        cells = functional.adaptive_avg_pool2d(visible.to(torch.float32), (8, 8)) >= 0.5
        grid: Tensor = super().grid(filled, visible) / cells.any()
        return grid


class KeepsItToItself(Untrue):
    scale = 1.0

    def finish(self, batches: Iterable[Tensor]) -> None:
        self.scale = 2.0

    def grid(self, filled: Tensor, visible: Tensor) -> Tensor:
        return self.scale * super().grid(filled, visible)


class MovesFrozenParts(Untrue):
    def build(self) -> None:
        super().build()
        self.backbone = nn.BatchNorm2d(3).requires_grad_(False)

    def finish(self, batches: Iterable[Tensor]) -> None:
        with torch.no_grad():
            self.backbone.weight.add_(0.1)


class ExportsAnotherThing(Untrue):
    def grid(self, filled: Tensor, visible: Tensor) -> Tensor:
        return super().grid(filled, visible) * (2 if torch.compiler.is_exporting() else 1)


class ExportsWithAnErrorOfNormalImages(Untrue):
    """The error is a small share of the score of noise, and a large one of that of a normal part."""

    def grid(self, filled: Tensor, visible: Tensor) -> Tensor:
        return super().grid(filled, visible) + (3e-4 if torch.compiler.is_exporting() else 0)


class CannotBeTraced(Untrue):
    def grid(self, filled: Tensor, visible: Tensor) -> Tensor:
        return super().grid(filled, visible) * (2 if float(filled.max()) > 100 else 1)


class DeclinesWithoutReason(Untrue):
    exports = False


class NeedsTwoImagesSilently(Untrue):
    def collect(self, batches: Iterable[Tensor]) -> None:
        images = torch.cat(list(batches))
        variance = (images - images.mean(0)).square().sum(0) / (len(images) - 1)
        self.average = images.mean(0) + 0 * variance


CAUGHT: list[tuple[type[Method], str, str]] = [
    (StoresAnotherValue, "arguments_rebuild_the_method", r"\{'gain': 2\.0\} became \{'gain': 3\.0\}"),
    (LooksAtLabels, "hooks_see_images_only", "collect takes .*labels"),
    (ScoresUnlearned, "not_learned_error", "a method that has not learned gave a score"),
    (DrawsInTheConstructor, "seed_decides_everything", "noise differs between two runs of one seed"),
    (HalfTheMap, "map_has_the_input_size", r"maps of the shape \(2, 32, 48\)"),
    (FallsWithTheDefect, "bigger_defect_bigger_score", "a strong defect scores -"),
    (MapTurnedRound, "map_shows_the_defect", "the map's mean is"),
    (NormalisesByTheBatch, "one_by_one_equals_batch", "one by one: the score differs by"),
    (LooksAtTheNeighbour, "permuting_images_permutes_scores", "another order: the score differs by"),
    (DrawsWhileScoring, "scoring_is_pure", "a second time: the score differs by"),
    (RemembersImages, "scoring_is_pure", "a second time"),
    (LetsPaddingWin, "padding_never_scores", r"the map's maximum is .* on the padding"),
    (LeavesNaN, "padding_never_scores", "padding makes the score NaN"),
    (
        NeedsWholeCells,
        "any_size_and_padding",
        r"images of \(128, 128\) with paddings .* have the scores \[(nan|inf)",
    ),
    (KeepsItToItself, "save_load_is_identical", "after loading: the score differs by"),
    (MovesFrozenParts, "frozen_parts_do_not_move", r"frozen parameters moved: \['backbone.weight'\]"),
    (ExportsAnotherThing, "exported_graph_agrees", "The exported graph's score differs from torch's by"),
    (ExportsWithAnErrorOfNormalImages, "exported_graph_agrees", "ONNX, image 1 of 5: the score differs by"),
    (
        CannotBeTraced,
        "exported_graph_agrees",
        r"torch cannot trace CannotBeTraced \(.*\)\. Use the torch runtime",
    ),
    (DeclinesWithoutReason, "exported_graph_agrees", "must say why in exports_reason"),
    (NeedsTwoImagesSilently, "one_training_image", r"after one training image the score is \[nan\]"),
]


@pytest.mark.parametrize(("method", "name", "match"), CAUGHT, ids=[row[0].__name__ for row in CAUGHT])
def test_a_broken_method_is_caught(method: type[Method], name: str, match: str) -> None:
    check = {check.__name__: check for check in CHECKS}[f"check_{name}"]
    with pytest.raises((AssertionError, ModelError), match=match):
        check(method)


def test_every_check_can_fail() -> None:
    assert {f"check_{name}" for _, name, _ in CAUGHT} == {check.__name__ for check in CHECKS}


def test_checks_share_what_they_trained() -> None:
    trained = 0

    class Counted(Average):
        def collect(self, batches: Iterable[Tensor]) -> None:
            nonlocal trained
            trained += 1
            super().collect(batches)

    check_method(Counted)
    assert trained == 8  # shared, again with the same seed, four sizes, frozen parts, one image


def test_check_method_runs_them_all() -> None:
    with pytest.raises(AssertionError, match="must say why in exports_reason"):
        check_method(DeclinesWithoutReason)
