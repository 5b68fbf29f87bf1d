"""The methods of the tiny product are known by name."""

import pytest

from blemish import plugins
from tiny_product import Average, Spy


@pytest.fixture(autouse=True)
def _methods_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {"average": Average, "spy": Spy})
