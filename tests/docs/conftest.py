"""The folder in which the snippets of the docs run."""

import shutil
from pathlib import Path

import pytest

from blemish.demo import write_product


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_product(
        tmp_path_factory.mktemp("product"), train=5, test_good=2, per_defect=1, size=(96, 128)
    )


@pytest.fixture
def in_the_world_of_the_docs(product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder that holds what the docs speak of: demo/plate, bottle/ and part_0815.png."""
    for folder in ("demo/plate", "bottle"):
        shutil.copytree(product, tmp_path / folder)
    shutil.copy(next((product / "test" / "scratch").iterdir()), tmp_path / "part_0815.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("blemish.plugins._registered", {})
