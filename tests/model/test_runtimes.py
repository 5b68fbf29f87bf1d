"""The torch and ONNX runtimes of a saved model."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import blemish
from blemish.data.images import write_image
from blemish.data.preprocess import Preprocess
from blemish.errors import ModelError
from blemish.manifest import FILE, GRAPH, WEIGHTS, read_manifest
from blemish.model import Model
from blemish.runtimes.torch import TorchRuntime
from model_folder import files, stored
from tiny_product import draw_part, normal_samples


def test_an_unknown_runtime_is_refused(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    with pytest.raises(ModelError, match=r"There is no runtime 'tensorrt'\. Choose one of: torch, onnx"):
        blemish.load(tmp_path / "m", runtime="tensorrt")
    with pytest.raises(
        ModelError,
        match=r"holds no model\.onnx\. Use another runtime; `blemish fit --onnx` makes the files of both",
    ):
        blemish.load(tmp_path / "m", runtime="onnx")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the catalogue, saved with its graph."""
    folder = tmp_path_factory.mktemp("exported")
    samples = normal_samples(folder / "parts", 8)
    model = blemish.fit("variation", samples, preprocess=Preprocess(size=(40, 40), resize="fit"))
    return model.save(folder / "模型", onnx=True)


def test_torch_and_onnx_agree(exported: Path) -> None:
    assert set(read_manifest(exported).files) == {GRAPH, WEIGHTS}
    assert set(files(exported)) == {FILE, stored(exported).name, stored(exported, GRAPH).name}
    by_torch, by_onnx = blemish.load(exported), blemish.load(exported, runtime="onnx")
    assert by_torch.manifest == by_onnx.manifest
    cases: Sequence[tuple[int, int]] = [(48, 60), (60, 30), (40, 40)]
    images = [draw_part(seed, size, defect) for seed, size in enumerate(cases) for defect in (0.0, 1.0)]
    (scores, maps), (onnx_scores, onnx_maps) = by_torch.score(images), by_onnx.score(images)
    np.testing.assert_allclose(onnx_scores, scores, rtol=1e-3)
    for a, b in zip(maps, onnx_maps, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-3 * float(a.max()))
    assert [by_onnx.inspect(p).verdict for p in images] == [by_torch.inspect(p).verdict for p in images]


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it now fails
import json, blemish
model = blemish.load(sys.argv[1], runtime="onnx")
print(json.dumps(model.inspect(sys.argv[2]).to_dict()))
"""


def test_inspection_needs_no_torch(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "坏 part.png"
    write_image(path, draw_part(100, defect=1.0))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, exported, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found, expected = json.loads(done.stdout), blemish.load(exported).inspect(path).to_dict()
    assert found["path"] == str(path)
    assert found["verdict"] == expected["verdict"] == "NG"
    assert found["score"] == pytest.approx(expected["score"], rel=1e-3)
    assert len(found["regions"]) == len(expected["regions"]) > 0


def test_an_onnx_model_is_not_saved_again(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Only a model in the torch runtime can be saved"):
        blemish.load(exported, runtime="onnx").save(tmp_path / "m")


def test_the_runtime_runs_on_the_device_asked_for(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    loaded = blemish.load(tmp_path / "m", device="cpu")
    assert isinstance(loaded.runtime, TorchRuntime)
    assert {tensor.device.type for tensor in loaded.runtime.method.state_dict().values()} == {"cpu"}
    assert not loaded.runtime.method.training
