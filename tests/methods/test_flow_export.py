"""Graphs of flows agree with torch where the likelihood of an anomaly underflows to zero."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from blemish.methods.base import Method
from blemish.methods.fastflow import SMALLEST_P, FastFlow
from blemish.methods.msflow import MSFlow
from blemish.runtimes.export import export_onnx
from blemish.runtimes.onnx import OnnxRuntime
from blemish.testing.checks import predict
from blemish.testing.parts import SIZE, normal_parts
from blemish.training import learn


class Extreme(FastFlow):
    """A flow whose latent values are a hundred times as large, as after long training."""

    def _apply_flows(self, prepared: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        return [(100 * z, determinant) for z, determinant in super()._apply_flows(prepared)]


@pytest.mark.parametrize(
    "method",
    [
        Extreme(backbone="compact:random", flow_steps=2, epochs=30, learning_rate=2e-2, patience=0),
        MSFlow(backbone="compact:random", flow_steps=(1, 1), epochs=30, learning_rate=2e-2),
    ],
    ids=["fastflow", "msflow"],
)
def test_graph_gives_the_largest_score_of_torch(method: Method, tmp_path: Path) -> None:
    learn(method, normal_parts(12), batch_size=5, seed=0)
    images = normal_parts(3, seed=3)
    images[0] = 1000 * np.random.default_rng(0).random(images[0].shape)
    expected = predict(method, images)
    assert expected.score[0] == pytest.approx(-math.log(SMALLEST_P), rel=0.01)
    export_onnx(method, tmp_path / "model.onnx", SIZE)
    found = OnnxRuntime(tmp_path / "model.onnx").predict(images)
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-3)
    np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, rtol=1e-3, atol=1e-3)
