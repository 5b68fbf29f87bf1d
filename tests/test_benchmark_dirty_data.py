"""The tables of dirty training data: what a copy is, and a tiny run of each kind of row."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from benchmarks import dirty_data

import blemish
from blemish.demo import write_product


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> blemish.Dataset:
    folder = tmp_path_factory.mktemp("plate")
    return blemish.open_dataset(write_product(folder, train=8, test_good=1, per_defect=1, size=(120, 160)))


def test_a_copy_is_shifted_and_brighter_than_the_original(dataset: blemish.Dataset) -> None:
    image = blemish.read_image(dataset.train[0].path).astype(np.float64)
    data = np.frombuffer(dirty_data.near_copy(image.astype(np.uint8)), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    copy = decoded[:, :, ::-1].astype(np.float64)
    assert copy.shape == image.shape
    assert np.abs(copy[:, 3:] - np.minimum(255, 1.03 * image[:, :-3])).mean() < 3
    assert np.abs(copy - 1.03 * image).mean() > 4


def test_rows_and_tables(dataset: blemish.Dataset, tmp_path: Path) -> None:
    for name in ("defects", "all", "none"):
        (tmp_path / name).mkdir()
    defects = dirty_data.defects(dataset, "0", tmp_path / "defects")
    assert (defects["images"], defects["mixed_in"]) == ("9", "1")
    assert int(defects["found"]) <= 1
    every = dirty_data.copies(dataset, "all", tmp_path / "all")
    assert (every["images"], every["mixed_in"], every["found"], every["reported_others"]) == (
        "16",
        "8",
        "8",
        "0",
    )
    none = dirty_data.copies(dataset, "none", tmp_path / "none")
    assert (none["images"], none["mixed_in"], none["found"], none["reported"]) == ("8", "0", "0", "0")
    more = {"seconds": "1", "machine": "m", "versions": "v"}
    rows = [{"row": "defects bottle 0", **defects, **more}, {"row": "copies bottle all", **every, **more}]
    assert {*rows[0]} == {*rows[1]} == {*dirty_data.COLUMNS}
    assert dirty_data.table(rows, "defects").splitlines()[2].startswith("| bottle, 9 | 0 | 1 | ")
    assert dirty_data.table(rows, "copies").splitlines()[2] == "| bottle, 16 | 8 | 8 | 0 | 1 s |"
