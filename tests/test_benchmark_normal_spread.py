"""The benchmark of the spread of normal scores: its distances, its rows and its table."""

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import normal_spread
from benchmarks.normal_spread import INPUT, main, patch_distances, table
from benchmarks.tables import read_rows

import blemish
from blemish.data.images import read_image
from blemish.demo import write_product

SMALL = INPUT.changed(size=(64, 64))


@pytest.fixture
def product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_product(tmp_path / "plate", train=8, test_good=1, per_defect=1, seed=0)
    for name, value in (
        ("TABLE", tmp_path / "rows.csv"),
        ("DATA", {"plate": "plate"}),
        ("SEEDS", (0,)),
        ("INPUT", SMALL),
        ("METHODS", {"patchcore": lambda backbone: blemish.PatchCore(backbone=f"{backbone}:random")}),
    ):
        monkeypatch.setattr(normal_spread, name, value)
    monkeypatch.setenv("BLEMISH_DATA", str(tmp_path))
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(tmp_path))
    return tmp_path / "plate"


def test_distances_are_those_of_every_patch_to_the_bank(product: Path) -> None:
    images = blemish.open_dataset(product).train
    method = blemish.PatchCore(backbone="resnet18:random", coreset_ratio=0.2)
    blemish.fit(method, images, preprocess=SMALL, device="cpu")
    found = patch_distances(method, images[0])
    with torch.no_grad():
        patches = method.embed(torch.from_numpy(SMALL(read_image(images[0].path)))[None]).flatten(0, 2)
    expected = torch.cdist(patches.double(), method.memory_bank.patches.double()).amin(1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_rows_are_measured_once_and_shown(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert product.is_dir()
    pages: list[str] = []
    monkeypatch.setattr(normal_spread, "fill_pages", lambda _, text: pages.append(text(None)))
    main()
    monkeypatch.setattr(normal_spread, "measure", lambda *_: pytest.fail("measured again"))
    main()
    (row,) = read_rows(normal_spread.TABLE)
    assert float(row["deviation"]) > 0
    assert 1 < float(row["q99"]) <= float(row["q999"])
    assert pages[0] == pages[1]
    assert f"| plate | patchcore | {float(row['deviation']):.3f} |" in pages[0]


def test_the_table_shows_means_over_the_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "data": "bottle",
        "method": "patchcore",
        "q99": "1.5",
        "q999": "2",
        "machine": "m",
        "versions": "v",
    }
    rows = [row | {"seed": str(i), "deviation": value} for i, value in enumerate(("0.2", "0.4"))]
    assert "| bottle | patchcore | 0.300 | 1.500 | 2.000 |" in table(rows)
