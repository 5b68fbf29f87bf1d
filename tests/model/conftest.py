"""A model of the tiny product."""

from pathlib import Path

import pytest

from blemish import plugins
from blemish.model import Model
from tiny_product import Average, tiny_model


@pytest.fixture(autouse=True)
def _average_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {"average": Average})


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return tiny_model(tmp_path / "parts")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound model, ready to be tampered with."""
    return tiny_model(tmp_path / "parts").save(tmp_path / "model")
