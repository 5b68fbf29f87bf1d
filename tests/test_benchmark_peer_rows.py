"""Rows of the comparison with anomalib: their columns from prescribed figures, and our side measured."""

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.peers import blemish_side, blemish_training, columns, network_rows
from scipy import stats

from blemish.blocks.flows import flow
from blemish.demo import write_product
from blemish.methods import efficientad

VERSIONS = {"anomalib": "2.7.0"}


def test_ranks_are_compared_as_scipy_does() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 25))
    assert columns.spearman(a, b) == pytest.approx(float(stats.spearmanr(a, b).statistic))
    assert math.isnan(columns.spearman([1.0], [2.0]))
    with pytest.raises(SystemExit, match="scored 2 and 1 test images; they must score the same"):
        columns.spearman([1.0, 2.0], [1.0])


@pytest.mark.parametrize("losses", [[1.0, 1.5], [1.0, math.nan, 0.5], [2.0]])
def test_training_that_learns_nothing_is_no_row(losses: list[float]) -> None:
    sound = {"losses": [3.0, 4.0, 1.0]}
    assert columns.learning(sound, sound) == "loss 3 → 1 and 3 → 1"
    with pytest.raises(SystemExit, match=r"blemish's loss went from .*; training that fails is not timed"):
        columns.learning(sound, {"losses": losses})
    with pytest.raises(SystemExit, match="anomalib's loss went from"):
        columns.learning({"losses": losses}, sound)


@pytest.mark.parametrize("scores", [[1.0, 1.0], [1.0, math.inf], [1.0, 2.0, 3.0]])
def test_scores_that_say_nothing_are_no_row(scores: list[float]) -> None:
    assert columns.scoring({"scores": [1.0, 2.0]}, {"scores": [5.0, 4.0]}) == "median of 2 images"
    with pytest.raises(SystemExit, match=r"anomalib gave the scores .*; such inference is not timed"):
        columns.scoring({"scores": scores}, {"scores": [5.0, 4.0]})


def test_step_row_gives_the_ratio_of_both_precisions() -> None:
    mine = {
        "seconds": 1.0, "float32_seconds": 2.0, "convolution_seconds": 0.75, "precision": "bfloat16",
        "losses": [2.0, 1.0], "versions": {},
    }  # fmt: skip
    theirs = {"seconds": 5.0, "losses": [4.0, 3.0], "versions": VERSIONS}
    row = network_rows.fastflow_step(lambda _: mine, lambda _: theirs, {"flow_batch": 32})
    assert row["seconds_ratio"] == "5.00"
    assert row["note"] == (
        "32 images a step; loss 4 → 3 and 2 → 1; blemish's convolutions train in bfloat16; "
        "in float32, as anomalib's, 2.0000 s (2.50 times); our convolutions alone take 0.7500 s"
    )
    del mine["convolution_seconds"]
    row = network_rows.efficientad_step(lambda _: {**mine, "precision": "float32"}, lambda _: theirs, {})
    assert row["note"].endswith("on our side; loss 4 → 3 and 2 → 1; blemish's convolutions train in float32")


def test_epoch_row_counts_the_preparing_apart() -> None:
    mine = {
        "seconds": 2.0, "preparing_seconds": 20.0, "precision": "float32", "losses": [2.0, 1.0], "images": 209,
        "versions": {},
    }  # fmt: skip
    theirs = {"seconds": 12.0, "losses": [4.0, 3.0], "versions": VERSIONS}
    row = network_rows.fastflow_epoch(lambda _: mine, lambda _: theirs, {"flow_batch": 32})
    assert row["seconds_ratio"] == "6.00"
    assert "209 images, 32 a step" in row["note"]
    assert "in 20.0 s; with a tenth of it, as in ten epochs, 3.00 times" in row["note"]


def test_simplenet_row_counts_only_what_both_sides_compute() -> None:
    mine = {"seconds": 2.0, "scores": [1.0, 2.0], "versions": {}}
    theirs = {**mine, "seconds": 4.0, "whole_seconds": 6.0, "versions": {"SimpleNet": "abc"}}
    row = network_rows.simplenet_inspect(lambda _: mine, lambda _: theirs, {})
    assert row["seconds_ratio"] == "2.00"
    assert row["note"].endswith("with it 6.0000 s (3.00 times)")
    assert row["versions"].startswith("SimpleNet abc")


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """The smallest, with random weights and a small product in place of bottle."""
    torch.manual_seed(0)  # as `answer` does
    folder = write_product(tmp_path / "plate", train=4, test_good=1, per_defect=1, seed=0)
    return {
        "data": str(folder), "backbone": "resnet18:random", "inputs": str(tmp_path / "inputs.npz"),
        "train_images": 2, "test_images": 2, "flow_batch": 1, "steps": 6,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["fastflow-step", "efficientad-step", "ganomaly-step", "fastflow-epoch"])
def test_our_training_is_measured(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], name: str
) -> None:
    monkeypatch.setattr(blemish_training, "random_picture", lambda: torch.rand(1, 3, 64, 64))
    if name == "fastflow-epoch":
        assert blemish_side.ROWS["training-inputs"](settings) == {"images": 2}
    found = blemish_side.ROWS[name](settings)
    assert found["seconds"] > 0
    assert found["preparing_seconds" if name == "fastflow-epoch" else "float32_seconds"] > 0
    columns.learning(found, found)


@pytest.mark.parametrize("name", ["fastflow-inspect", "simplenet-inspect"])
def test_our_inference_is_measured(settings: dict[str, Any], name: str) -> None:
    blemish_side.ROWS["inputs"](settings)
    found = blemish_side.ROWS[name](settings)
    assert found["seconds"] > 0
    assert columns.scoring(found, found) == "median of 2 images"
    assert 0 < found.get("convolution_seconds", found["seconds"]) <= 3 * found["seconds"]


@pytest.mark.parametrize("module", [flow, efficientad])
def test_second_measurement_trains_in_float32(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    mixed = torch.autocast("cpu", torch.bfloat16)
    monkeypatch.setattr(module, "mixed_precision", lambda _: mixed)  # whatever this processor has
    seen: list[bool] = []

    def steps(_: dict[str, Any]) -> dict[str, Any]:
        with module.mixed_precision(torch.device("cpu")):
            seen.append(torch.is_autocast_enabled("cpu"))
        return {"seconds": 2.0 - len(seen)}

    found = blemish_training.in_both_precisions(steps, f"{module.__name__}.mixed_precision", {})
    assert seen == [True, False]
    assert (found["seconds"], found["float32_seconds"]) == (1.0, 0.0)
