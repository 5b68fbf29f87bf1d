"""Which device is meant, on computers with and without a GPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import blemish
from blemish import plugins
from blemish.errors import MethodError, ModelError
from blemish.methods.base import Method
from blemish.model import Model
from blemish.runtimes.onnx import OnnxRuntime
from blemish.runtimes.torch import TorchRuntime, resolve_device
from blemish.types import Prediction
from tiny_product import SMALL, Average, normal_samples, tiny_model


@pytest.fixture(autouse=True)
def _average_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {"average": Average})


@pytest.mark.parametrize(
    ("gpus", "asked", "meant"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (2, "auto", "cuda"),
        (2, "cpu", "cpu"),
        (2, "cuda", "cuda"),
        (2, "cuda:1", "cuda:1"),
    ],
)
def test_auto_is_the_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, gpus: int, asked: str, meant: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert resolve_device(asked) == meant


@pytest.mark.parametrize(
    ("gpus", "asked", "offered"),
    [
        (0, "cuda", "cpu, auto"),
        (0, "tpu", "cpu, auto"),
        (1, "cuda:1", "cpu, cuda, cuda:0, auto"),
        (1, "", "cpu, cu"),
    ],
)
def test_an_absent_device_is_one_clear_error_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, asked: str, offered: str
) -> None:
    saved = tiny_model(tmp_path / "parts").save(tmp_path / "m")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    message = rf"^torch finds no device '{asked}'\. Choose one of: {offered}"
    with pytest.raises(MethodError, match=message):
        blemish.fit(Average(), [tmp_path / "never read.png"] * 2, device=asked)
    with pytest.raises(MethodError, match=message):
        blemish.load(saved, device=asked)


def test_auto_reaches_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = normal_samples(tmp_path / "parts", 4)
    saved = blemish.fit(Average(), samples, preprocess=SMALL, device="cpu").save(tmp_path / "m")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(Method, "to", lambda method, device: method)
    loaded = blemish.load(saved)
    assert loaded.runtime.device == "cuda"
    assert blemish.load(saved, device="cpu").runtime.device == "cpu"


def test_the_onnx_runtime_works_on_the_cpu_only(tmp_path: Path) -> None:
    saved = tiny_model(tmp_path / "parts").save(tmp_path / "m")
    with pytest.raises(ModelError) as error:
        blemish.load(saved, runtime="onnx", device="cuda")
    assert str(error.value) == ("The onnx runtime runs on the CPU only, not on 'cuda'. Leave the device out.")
    for device in ("auto", "cpu"):
        with pytest.raises(ModelError, match=r"holds no model\.onnx"):
            blemish.load(saved, runtime="onnx", device=device)


@pytest.mark.parametrize(
    ("value", "expected"), [(None, 0), ("3", 3), ("3,2", 3), ("", 0), ("many", 0), ("-1", 0)]
)
def test_the_onnx_runtime_takes_as_many_threads_as_torch(
    value: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    saved = tiny_model(tmp_path / "parts").save(tmp_path / "m", onnx=True)
    runtime = blemish.load(saved, runtime="onnx").runtime
    assert isinstance(runtime, OnnxRuntime)
    assert runtime.session.get_session_options().intra_op_num_threads == expected


class OnGpu(TorchRuntime):
    """Says that it is on a GPU."""

    def predict(self, images: NDArray[np.float32]) -> Prediction[NDArray[np.float32]]:
        return TorchRuntime(self.method, "cpu").predict(images)


def test_the_summary_names_a_device_that_is_not_the_cpu(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "parts")
    before = model.summary()
    assert "Device" not in before
    assert model.calibration.describe() in before
    assert isinstance(model.runtime, TorchRuntime)
    on_gpu = Model(model.manifest, OnGpu(model.runtime.method), unusual=model.unusual)
    on_gpu.runtime.device = "cuda"
    assert on_gpu.summary() == f"{before}\nDevice: cuda"
