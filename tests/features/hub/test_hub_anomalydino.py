"""AnomalyDINO on a tiny transformer."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from blemish.features.backbone import Backbone
from blemish.methods.anomalydino import AnomalyDINO
from blemish.runtimes.export import export_onnx
from blemish.runtimes.onnx import OnnxRuntime
from blemish.runtimes.torch import load_method, save_weights
from blemish.testing.parts import SIZE, defective_part, normal_parts
from blemish.training import learn

pytest.importorskip("transformers", reason="transformers (extra `hf`) is not installed")


def test_a_transformers_tokens_are_compared_by_their_cosines(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    name = f"hf:{folders['dinov2']}"
    method = AnomalyDINO(backbone=name, layers=(3,), rotations=2)
    learn(method, normal_parts(3))
    method.eval()
    image = torch.from_numpy(defective_part(1.0)[None])
    network = Backbone(name, (3,), final_norm=True)
    turned = torch.from_numpy(normal_parts(3)).rot90(2, (2, 3))
    with torch.no_grad():
        bank, tokens = (
            network(x)[0].flatten(2).mT.flatten(0, 1)
            for x in (torch.cat([torch.from_numpy(normal_parts(3)), turned]), image)
        )
        found = method(image)
    distance = 1 - functional.cosine_similarity(tokens[:, None], bank[None], dim=2).amax(1)
    assert tokens.shape[0] == 16 * 24
    assert float(found.score) == pytest.approx(float(distance.sort().values[-3:].mean()), rel=1e-2)
    save_weights(method, tmp_path / "weights.safetensors")
    loaded = load_method(AnomalyDINO, method.arguments, tmp_path / "weights.safetensors").eval()
    with torch.no_grad():
        assert torch.equal(loaded(image).anomaly_map, found.anomaly_map)
    export_onnx(method, tmp_path / "model.onnx", SIZE)
    graph = OnnxRuntime(tmp_path / "model.onnx").predict(image.numpy())
    torch.testing.assert_close(torch.from_numpy(graph.anomaly_map), found.anomaly_map, rtol=1e-2, atol=1e-4)
