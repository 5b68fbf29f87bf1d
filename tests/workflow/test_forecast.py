"""What methods declare of their cells and of the size of what they learn holds for every method of the catalogue."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import blemish
from blemish.data.images import write_image
from blemish.data.input_size import Resolution
from blemish.data.preprocess import Preprocess
from blemish.methods.autoencoder import AutoEncoder
from blemish.methods.base import Method
from blemish.methods.fastflow import FastFlow
from blemish.methods.memory_bank import CoresetMethod
from blemish.methods.padim import PaDiM
from blemish.methods.patchcore import PatchCore
from blemish.methods.pni import PNI
from blemish.methods.reconpatch import ReConPatch
from blemish.methods.template import Template
from blemish.methods.variation import Variation
from blemish.testing.parts import normal_parts
from blemish.training import learn
from blemish.types import Sample
from blemish.workflow.forecast import Forecast
from test_contract import METHODS

GROWING: dict[str, Callable[[], Method]] = {
    "patchcore": lambda: PatchCore(backbone="compact:random", coreset_ratio=1.0),
    "patchcore-mapped": lambda: PatchCore(backbone="compact:random", mean_mapped=128, coreset_ratio=0.5),
    "reconpatch": lambda: ReConPatch(
        backbone="compact:random", dimensions=128, sampled=64, epochs=1, coreset_ratio=1.0
    ),
    "pni": lambda: PNI(
        backbone="compact:random", coreset_ratio=1.0, classes=16, reduced=4, hidden=8, sampled=64, epochs=1
    ),
    "padim": lambda: PaDiM(backbone="compact:random", dimensions=30),
    "fastflow": lambda: FastFlow(backbone="compact:random", flow_steps=1, epochs=1),
    "autoencoder": lambda: AutoEncoder(size=32, width=4, code=4, epochs=1, patches=True, standardise=True),
    "template": Template,
    "variation": Variation,
}


def bytes_learned(method: Method, size: tuple[int, int], images: int) -> int:
    """Bytes of the state after learning."""
    parts = torch.from_numpy(normal_parts(images))
    resized = torch.nn.functional.interpolate(parts, size=size, mode="bilinear")
    learn(method, resized.numpy(), held_out=resized[:2].numpy(), batch_size=4, seed=0)
    return sum(tensor.nbytes for tensor in method.state_dict().values())


@pytest.mark.parametrize("name", GROWING)
def test_what_grows_with_the_input_is_as_large_as_declared(name: str) -> None:
    small, large, images = (128, 192), (200, 264), 8
    grown = bytes_learned(GROWING[name](), large, images) - bytes_learned(GROWING[name](), small, images)
    method = GROWING[name]()
    declared = method.learned_bytes(large, images) - method.learned_bytes(small, images)
    assert declared == pytest.approx(grown, rel=0.1)
    if not isinstance(method, CoresetMethod):
        assert declared == grown > 0


@pytest.mark.parametrize("name", METHODS)
def test_cells_are_those_of_the_grid_that_is_enlarged(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grids: list[tuple[int, int]] = []

    def spied(grid: Tensor, *arguments: Any) -> Tensor:
        grids.append((grid.shape[1], grid.shape[2]))
        return upsample(grid, *arguments)

    from blemish.blocks.anomaly_map import upsample

    for module in [m for key, m in sys.modules.items() if key.startswith("blemish.methods.")]:
        if getattr(module, "upsample", None) is upsample:
            monkeypatch.setattr(module, "upsample", spied)
    method = METHODS[name]()
    learn(method, normal_parts(6), held_out=normal_parts(2, seed=1), batch_size=3, seed=0)
    images = torch.from_numpy(normal_parts(1, seed=2))
    method.eval()(images)
    height, width = images.shape[2:]
    finest = max(grids) if grids else (height, width)  # a method without a grid scores pixels
    cell = method.cell_size((height, width))
    assert finest == (math.ceil(height / cell[0]), math.ceil(width / cell[1]))


def test_a_large_model_is_announced(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((1200, 1600), np.uint8))
    samples = [Sample(tmp_path / "a.png", 0, "train")]
    padim = PaDiM(backbone="compact:random")
    native = str(Forecast.of(padim, samples, Preprocess(size=(1200, 1600))))
    assert native == (
        "Images 1200 × 1600, input 1200 × 1600 pixels (height × width): one cell covers 8 × 8 pixels; defects from "
        "about 12 pixels can be expected to be seen.\n"
        "The model will take about 618 MB of memory and disk at this input; a smaller --pixels or --image-size makes "
        "it smaller."
    )
    assert "MB" not in str(Forecast.of(padim, samples, Preprocess(size=(224, 288))))
    (tmp_path / "a.png").unlink()
    assert str(Forecast.of(padim, samples, Preprocess())) == ""


def test_the_size_of_a_memory_bank_follows_from_the_number_of_images() -> None:
    method = PatchCore(backbone="compact:random", coreset_ratio=0.1)
    assert method.learned_bytes((256, 256), 200) == 10 * method.learned_bytes((256, 256), 20)
    limited = PatchCore(backbone="compact:random", bank_size=100)
    assert limited.learned_bytes((256, 256), 200) == limited.learned_bytes((1024, 256), 20)


def test_a_fitted_model_keeps_what_it_sees(tmp_path: Path) -> None:
    samples = []
    for index in range(6):
        path = tmp_path / f"{index}.png"
        write_image(path, np.random.default_rng(index).integers(90, 110, (250, 100)).astype(np.uint8))
        samples.append(Sample(path, 0, "train"))
    model = blemish.fit("pca", samples)
    assert model.preprocess == Preprocess(size=(416, 160))
    expected = Resolution.of((250, 100), model.preprocess, (416 / 64, 160 / 64))
    assert model.manifest.resolution == expected
    assert blemish.load(model.save(tmp_path / "m")).manifest.resolution == expected
    assert f"resolution        {expected.describe()}\n" in model.manifest.describe()
